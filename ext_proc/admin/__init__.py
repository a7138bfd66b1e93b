"""The admin port of a process: health, metrics, status, and what its role adds."""

EDGE_ADDRESS = "127.0.0.1:9904"
"""Where that of an edge listens unless `server.admin` says otherwise."""
NODE_ADDRESS = "127.0.0.1:9905"
"""The same of a node. Another port, so that both may run on one machine. 9902 is that of Kuma's sidecars, and examples
publish residency on 9903.
"""
