"""The shell of `ext_proc.batching`: calls in, batches out through Envoy's egress listener, replies cut."""
