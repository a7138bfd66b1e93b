"""The routing benchmark: throughput, latency and CPU through tbms against the same Envoy without it."""
