"""Spans of what is done for sampled calls, for an OpenTelemetry collector: off unless `tracing` is configured.

- `tracer`: which calls are sampled, and how a span becomes one (pure)
- `calls`, `races`, `batches`, `loads`: the spans of each, made of what is known when it has ended (pure)
- `exporting`: the queue of spans, and the thread that sends them
- `otlp`: the one module that knows OpenTelemetry's packages, imported where they are needed
"""
