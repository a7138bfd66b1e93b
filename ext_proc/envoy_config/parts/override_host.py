"""Load balancing by the server: Envoy's override_host policy reads the nodes of a call from its dynamic metadata."""

from envoy_data_plane.envoy.config.cluster.v3 import LoadBalancingPolicy, LoadBalancingPolicyPolicy
from envoy_data_plane.envoy.extensions.load_balancing_policies.least_request.v3 import LeastRequest
from envoy_data_plane.envoy.extensions.load_balancing_policies.override_host.v3 import (
    OverrideHost,
    OverrideHostOverrideHostSource,
)
from envoy_data_plane.envoy.type.metadata.v3 import MetadataKey, MetadataKeyPathSegment

from ext_proc.contract import NODES_KEY, NODES_NAMESPACE
from ext_proc.envoy_config.parts.text import extension


def override_host() -> LoadBalancingPolicy:
    """The nodes that the server named, in order; any healthy one where it named none, or none that is healthy.

    For the cluster of the nodes, which has to hold every endpoint that the server may name, spelled alike. There is no
    header among the sources: a client's own header would be obeyed.
    """
    path = [MetadataKeyPathSegment(key=NODES_KEY)]
    override = OverrideHost(
        override_host_sources=[OverrideHostOverrideHostSource(metadata=MetadataKey(key=NODES_NAMESPACE, path=path))],
        fallback_policy=_policy("envoy.load_balancing_policies.least_request", LeastRequest()),
    )
    return _policy("envoy.load_balancing_policies.override_host", override)


def _policy(name: str, config: OverrideHost | LeastRequest) -> LoadBalancingPolicy:
    return LoadBalancingPolicy(policies=[LoadBalancingPolicyPolicy(typed_extension_config=extension(name, config))])
