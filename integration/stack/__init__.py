"""The system on one machine, as child processes that never outlive their launcher.

- `stack`: nodes behind an edge, started and stopped as one
- `embedded`, `cached_node`: the two kinds of nodes: a bare model server; a model server with Envoy and a tbms node
- `sidecar`: Envoy with a tbms server beside it: the edge, and the agent of a cached node
- `process`, `reaper`, `interrupt`: child processes, and how they end
- `ports`, `envoys`: what a child needs before it starts
- `models`, `onnx_graphs`: the digits models that nodes serve, trained and written as ONNX
- `envoy_counts`, `race_log`: what Envoy counted and what a server logged
"""
