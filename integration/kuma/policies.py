"""What tbms changes in sidecars, as patches."""

from collections.abc import Mapping
from typing import Any

import yaml
from envoy_data_plane.envoy.config.cluster.v3 import Cluster

from ext_proc.envoy_config.parts.filter import edge_filter, node_filter
from ext_proc.envoy_config.parts.known import known_filter
from ext_proc.envoy_config.parts.override_host import override_host
from ext_proc.envoy_config.parts.server_cluster import server_cluster
from ext_proc.envoy_config.parts.text import to_yaml
from ext_proc.envoy_config.settings import EnvoySettings
from ext_proc.kuma.patching.modification import Modification, read_modification
from integration.kuma.sidecars import Patches


def patches(envoy: str) -> Patches:
    settings = EnvoySettings()
    server = {
        "cluster": {"operation": "Add", "value": to_yaml(server_cluster("unix:/run/tbms/ext_proc.sock", None, 10000))}
    }

    def before_router(origin: str, made: Any) -> Mapping[str, Any]:
        match = {"name": "envoy.filters.http.router", "origin": origin}
        return {"httpFilter": {"operation": "AddBefore", "match": match, "value": to_yaml(made)}}

    edge = [
        server,
        before_router("outbound", known_filter("/run/tbms/known.pb")),
        before_router("outbound", edge_filter(settings, envoy, known=True)),
        {
            "cluster": {
                "operation": "Patch",
                "match": {"origin": "outbound"},
                "value": to_yaml(Cluster(load_balancing_policy=override_host())),
            }
        },
    ]
    node = [server, before_router("inbound", node_filter(envoy, 60.0))]
    return Patches(_read(edge), _read(node))


def _read(items: list[Any]) -> list[Modification]:
    return [read_modification(yaml.safe_load(yaml.safe_dump(item)), f"[{at}]") for at, item in enumerate(items)]
