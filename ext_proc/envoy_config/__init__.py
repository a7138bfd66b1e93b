"""Envoy's configuration, rendered from typed messages for each Envoy version that is supported.

`parts` holds what tbms needs of any Envoy, a mesh's sidecar included: the ext_proc filter, the server's cluster, load
balancing by the nodes that the server names, retries, local replies. `bootstrap` is a stand-alone Envoy around them.

`render` gives an edge's whole bootstrap as YAML, `render_endpoints` the files that it watches if the nodes are to
change without a restart of Envoy; `render_node` gives a node's.
"""

from collections.abc import Sequence

from ext_proc.envoy_config.settings import EnvoyLimits, EnvoySettings, GatheredCalls
from mesh.node import Node

__all__ = ["EnvoyLimits", "EnvoySettings", "GatheredCalls", "render", "render_endpoints", "render_node"]

# envoy-data-plane takes most of a second to import, and the server does not need it: the modules that use it are
# imported when something is rendered.


def render(
    settings: EnvoySettings, *, version: str, server: str, nodes: Sequence[Node], known: str | None = None
) -> str:
    """The bootstrap for an Envoy of this version ("1.38", "1.40.0"), as YAML.

    `server` is where Envoy reaches the external processor: `unix:/path` or `host:port`. `known` is the file of known
    calls, which has to be there when Envoy starts.
    Raises ConfigError for a version that is not supported, and for an address that Envoy could not use.
    """
    from ext_proc.envoy_config.bootstrap.edge import edge_bootstrap
    from ext_proc.envoy_config.parts.text import to_yaml

    return to_yaml(edge_bootstrap(settings, version=version, server=server, nodes=nodes, known=known))


def render_node(
    settings: EnvoySettings,
    *,
    version: str,
    server: str,
    grpc: str,
    rest: str,
    hold_seconds: float,
    gathered: GatheredCalls | None = None,
    known: str | None = None,
) -> str:
    """A node's bootstrap, as YAML: `grpc` and `rest` are where its model server listens (`host:port`).

    Calls may be held for `hold_seconds` until their model is loaded. `gathered` where the node batches: then the server
    has a listener of its own to the model server. `known` as in `render`. Raises ConfigError as `render` does.
    """
    from ext_proc.envoy_config.bootstrap.node import ModelServer, node_bootstrap
    from ext_proc.envoy_config.parts.text import to_yaml

    models = ModelServer(grpc, rest, hold_seconds, gathered)
    return to_yaml(node_bootstrap(settings, version=version, server=server, models=models, known=known))


def render_endpoints(nodes: Sequence[Node]) -> dict[str, str]:
    """The files of `endpoints_dir`: name -> text. Replace them by rename, so that Envoy never reads half a file."""
    from ext_proc.envoy_config.bootstrap.clusters import endpoint_files

    return endpoint_files(nodes)
