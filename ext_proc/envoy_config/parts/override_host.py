"""Load balancing by the server: Envoy's override_host policy reads the nodes of a call from its dynamic metadata."""

from envoy_data_plane.envoy.config.cluster.v3 import LoadBalancingPolicy, LoadBalancingPolicyPolicy
from envoy_data_plane.envoy.extensions.load_balancing_policies.least_request.v3 import LeastRequest
from envoy_data_plane.envoy.extensions.load_balancing_policies.override_host.v3 import (
    OverrideHost,
    OverrideHostOverrideHostSource,
)
from envoy_data_plane.envoy.type.metadata.v3 import MetadataKey, MetadataKeyPathSegment

from ext_proc.contract import KNOWN_KEY, KNOWN_NAMESPACE, NODES_KEY, NODES_NAMESPACE
from ext_proc.envoy_config.parts.text import extension


def override_host() -> LoadBalancingPolicy:
    """The nodes that the server or the map of known calls named, in order; any healthy one where no node was named, or
    none that is there.

    For the cluster of the nodes, which has to hold every endpoint that the server may name, spelled alike. There is no
    header among the sources: a client's own header would be obeyed.
    """
    override = OverrideHost(
        override_host_sources=[_source(NODES_NAMESPACE, NODES_KEY), _source(KNOWN_NAMESPACE, KNOWN_KEY)],
        fallback_policy=_policy("envoy.load_balancing_policies.least_request", LeastRequest()),
    )
    return _policy("envoy.load_balancing_policies.override_host", override)


def _source(namespace: str, key: str) -> OverrideHostOverrideHostSource:
    path = [MetadataKeyPathSegment(key=key)]
    return OverrideHostOverrideHostSource(metadata=MetadataKey(key=namespace, path=path))


def _policy(name: str, config: OverrideHost | LeastRequest) -> LoadBalancingPolicy:
    return LoadBalancingPolicy(policies=[LoadBalancingPolicyPolicy(typed_extension_config=extension(name, config))])
