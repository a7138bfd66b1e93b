"""Which Envoy bootstrap fits a configuration: that of an edge, or that of a node."""

from ext_proc.batching.settings import BatchingSettings
from ext_proc.config import Config
from ext_proc.envoy_config import GatheredCalls, render, render_node


def bootstrap_for(config: Config, version: str) -> str:
    """The bootstrap for an Envoy of this version ("1.38"), as YAML. Raises ConfigError as `render` does."""
    server, node = config.server.listen, config.node
    if node is not None:
        return render_node(
            config.envoy,
            version=version,
            server=server,
            grpc=node.cache.loader.address,
            rest=node.rest,
            hold_seconds=node.hold_seconds,
            gathered=None if node.batching is None else _gathered(node.batching),
        )
    names = dict.fromkeys((*config.envoy.body_models, *config.model_table.names))
    envoy = config.envoy.model_copy(update={"body_models": tuple(names)})
    return render(envoy, version=version, server=server, nodes=[node.node() for node in config.nodes])


def _gathered(batching: BatchingSettings) -> GatheredCalls:
    """Beside calls that ask for company: those of models that have settings, if only to be put in order."""
    return GatheredCalls(tuple(batching.models), any_model=batching.default.cross_request)
