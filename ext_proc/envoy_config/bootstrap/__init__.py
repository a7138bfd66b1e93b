"""A stand-alone Envoy around the parts.

`edge` is an edge's Envoy: listeners for clients, for the server's own calls and for benchmarks, before the nodes'
clusters. `node` is a node's: the inbound listener in front of its model server. Both are built of `listeners` (one
listener and its HTTP connection manager), `routes` (its virtual host), `clusters` (and the endpoint files that Envoy
watches) and `assembly` (the bootstrap message: admin interface, overload manager, static resources).
"""
