"""What stands at the other end of tbms: real servers and clients, and servers that do as they are told.

- `triton`: a real Triton
- `tf_client`, `tf_client_runner`: the real TF Serving client, in an environment and a process of its own
- `clients`: client libraries behind one interface, for the demo
- `scripted_node`: a node whose answers take as long as each call's headers say
- `collector`, `prometheus`: an OpenTelemetry collector that keeps what it is sent; a real Prometheus
- `answerer`: an Envoy that answers every call by itself
"""
