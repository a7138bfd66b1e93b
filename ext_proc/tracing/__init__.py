"""Spans of what is done for sampled calls, for an OpenTelemetry collector: off unless `tracing` is configured.

- `tracer`: which calls are sampled, and what a span is
- `calls`, `races`, `batches`, `loads`: the spans of each, made of what is known of it when it is over
- `exporting`: the queue of spans, and the thread that sends them
- `otlp`: the one module that knows OpenTelemetry's packages, imported by `opening` where calls are to be traced
"""
