"""Sidecars of a Kuma mesh without a control plane: what live ones gave their sidecars, on real Envoys on the loopback.

- `samples`: what control planes of three versions produced (samples/README.md)
- `bootstrap`: the resources of a sidecar as a bootstrap of its own
- `identities`: certificates in place of the control plane's
- `sidecars`: a client's and a node's sidecar, patched or not, as processes
"""
