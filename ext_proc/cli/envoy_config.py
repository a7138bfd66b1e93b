"""Which Envoy bootstrap fits a configuration: that of an edge, or that of a node."""

import json
import stat
from dataclasses import dataclass
from pathlib import Path

import yaml

from ext_proc.batching.settings import BatchingSettings
from ext_proc.config import Config
from ext_proc.envoy_config import EnvoySettings, GatheredCalls, render, render_node
from ext_proc.errors import ConfigError, TbmsError
from ext_proc.known.file import make_if_absent
from mesh.system_words import system_words


@dataclass(frozen=True, slots=True)
class LaidMap:
    """Which map of known calls Envoy is to read, and a sentence where that is not as the configuration has it."""

    file: Path | None
    warning: str | None = None


def bootstrap_for(config: Config, version: str, known: Path | None) -> str:
    """The bootstrap for an Envoy of this version ("1.38") that reads the map `known`, as YAML.

    Raises ConfigError as `render` does.
    """
    server, node = config.server.listen, config.node
    file = None if known is None else str(known)
    if node is not None:
        return render_node(
            config.envoy,
            version=version,
            server=server,
            grpc=node.cache.loader.address,
            rest=node.rest,
            hold_seconds=node.hold_seconds,
            gathered=gathered_calls(node.batching),
            known=file,
        )
    nodes = [node.node() for node in config.nodes]
    return render(edge_settings(config), version=version, server=server, nodes=nodes, known=file)


def edge_settings(config: Config) -> EnvoySettings:
    """The `envoy:` section of an edge, with every model whose calls' bodies its server needs."""
    names = dict.fromkeys((*config.envoy.body_models, *config.model_table.names))
    return config.envoy.model_copy(update={"body_models": tuple(names)})


def as_json_text(bootstrap: str) -> str:
    """The same as JSON."""
    return json.dumps(yaml.safe_load(bootstrap), indent=2) + "\n"


def lay_map(config: Config) -> LaidMap:
    """Sees to it that the map of known calls lies where Envoy will look for it.

    The bootstrap may be written on another machine than the one on which Envoy starts. An Envoy without its map does
    not listen at all: so where none can be laid here, it reads one only if the configuration names the file.
    """
    if (file := config.known_file) is None:
        return LaidMap(None)
    named = config.known.file is not None
    if (cause := _why_not_laid(file, named)) is None:
        return LaidMap(file)
    if not named:
        return LaidMap(
            None,
            f"No known calls: {file} cannot be laid here ({cause}), and Envoy would not listen without it. Where "
            "something else sees to it that it lies there first, name it in known.file.",
        )
    return LaidMap(
        file,
        f"Envoy needs {file} before it starts, and it is not there ({cause}); `tbms serve` writes it when it starts.",
    )


def _why_not_laid(file: Path, named: bool) -> str | None:
    """Why no map can be laid there; None where one lies there now.

    A map is a filter of Envoy's, so it is read from a folder in which anybody may write only if it is `named`.
    """
    try:
        if not file.parent.is_dir():
            return "its folder is not on this machine"
        if not named and file.parent.stat().st_mode & stat.S_IWOTH:
            return "anybody may write into its folder"
        make_if_absent(file)
    except OSError as error:
        return system_words(error)
    return None


def laid_map(config: Config) -> str:
    """Lays an empty map where there is none, and says in a line what lies there now.

    Raises ConfigError where the configuration wants none, TbmsError where it cannot be written.
    """
    if (file := config.known_file) is None:
        raise ConfigError(f"This configuration wants no map of known calls: {config.known_off}")
    try:
        made = make_if_absent(file)
    except OSError as error:
        raise TbmsError(f"known.file: {file} cannot be written: {system_words(error)}") from None
    return f"{file}: {'an empty map' if made else 'there already'}"


def gathered_calls(settings: BatchingSettings | None) -> GatheredCalls | None:
    """Beside calls that ask for company: those of models that have settings, if only to be put in order.

    None where a node does not batch.
    """
    if settings is None:
        return None
    return GatheredCalls(tuple(settings.models), any_model=settings.default.cross_request)
