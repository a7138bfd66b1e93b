"""Which Envoy bootstrap fits a configuration: that of an edge, or that of a node."""

import json
from pathlib import Path

import yaml

from ext_proc.batching.settings import BatchingSettings
from ext_proc.config import Config
from ext_proc.envoy_config import EnvoySettings, GatheredCalls, render, render_node
from ext_proc.errors import ConfigError, TbmsError
from ext_proc.known.file import make_if_absent
from mesh.system_words import system_words


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
            gathered=gathered_calls(node.batching),
            known=config.known.file,
        )
    nodes = [node.node() for node in config.nodes]
    return render(edge_settings(config), version=version, server=server, nodes=nodes, known=config.known.file)


def edge_settings(config: Config) -> EnvoySettings:
    """The `envoy:` section of an edge, with every model whose calls' bodies its server needs."""
    names = dict.fromkeys((*config.envoy.body_models, *config.model_table.names))
    return config.envoy.model_copy(update={"body_models": tuple(names)})


def as_json_text(bootstrap: str) -> str:
    """The same as JSON."""
    return json.dumps(yaml.safe_load(bootstrap), indent=2) + "\n"


def lay_map(config: Config) -> str | None:
    """Sees to it that the map of known calls lies where Envoy will look for it; a sentence if that is somebody else's.

    The bootstrap may be written on another machine than the one on which Envoy starts.
    """
    if config.known.file is None:
        return None
    file = Path(config.known.file)
    try:
        if file.exists() or (file.parent.is_dir() and make_if_absent(file)):
            return None
        cause = "its folder is not on this machine"
    except OSError as error:
        cause = system_words(error)
    return f"Envoy needs {file} before it starts, and it is not there ({cause}); `tbms serve` writes it when it starts."


def laid_map(config: Config) -> str:
    """Lays an empty map where there is none, and says in a line what lies there now.

    Raises ConfigError where the configuration wants none, TbmsError where it cannot be written.
    """
    if config.known.file is None:
        raise ConfigError("known.file is not set: this configuration wants no map")
    try:
        made = make_if_absent(Path(config.known.file))
    except OSError as error:
        raise TbmsError(f"known.file: {config.known.file} cannot be written: {system_words(error)}") from None
    return f"{config.known.file}: {'an empty map' if made else 'there already'}"


def gathered_calls(settings: BatchingSettings | None) -> GatheredCalls | None:
    """Beside calls that ask for company: those of models that have settings, if only to be put in order.

    None where a node does not batch.
    """
    if settings is None:
        return None
    return GatheredCalls(tuple(settings.models), any_model=settings.default.cross_request)
