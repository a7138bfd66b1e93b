"""Load balancing by the nodes that the server names."""

from tests.ext_proc.envoy_config.documents import cluster, edge_document


def test_no_header_of_a_client_names_a_node() -> None:
    for name in ("models_grpc", "models_rest"):
        (policy,) = cluster(edge_document(), name)["load_balancing_policy"]["policies"]
        sources = policy["typed_extension_config"]["typed_config"]["override_host_sources"]
        keys = [("envoy.lb", "tbms-nodes"), ("tbms", "tbms-known")]
        assert sources == [{"metadata": {"key": space, "path": [{"key": key}]}} for space, key in keys]
