"""What a control plane makes of MeshProxyPatch policies, without a control plane.

- `envoy_types`: Envoy's messages as JSON, read strictly
- `merging`: protobuf's merge, over such JSON
- `resources`: the xDS resources of one proxy, and where each comes from
- `modification`: one item of `appendModifications`, as Kuma reads it
- `applying`: modifications carried out on resources

Everything here is pure. The samples of live control planes prove it (tests/ext_proc/kuma/patching).
"""
