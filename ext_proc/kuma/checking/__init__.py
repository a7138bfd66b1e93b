"""`tbms policies check`: policies judged without a control plane.

- `documents`: what stands in a folder of manifests
- `schemas`: each document against the schema of a Kuma version
- `proxies`: the sidecar configurations that policies are tried on, and which policies select which
- `rules`: what a patched sidecar must not be
- `report`: all of it together
"""
