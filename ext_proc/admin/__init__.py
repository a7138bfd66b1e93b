"""The admin port of a process: health, metrics, status, and what its role adds."""

DEFAULT_ADDRESS = "127.0.0.1:9902"
"""Where it listens unless `server.admin` says otherwise; the same for an edge and for a node."""
