"""docs/bounds.md names every bound on what comes from the wire, with its default: held against the code both ways.

A new bound is one more row of the page, in any of its tables. A constant that only looks like one is named below, with
the reason.
"""

import dataclasses
import importlib
import pkgutil
import re
from collections.abc import Iterator
from enum import Enum
from functools import cache
from itertools import chain, pairwise
from pathlib import Path
from types import ModuleType
from typing import Any, get_args

import pytest
from pydantic import BaseModel

import ext_proc
import mesh
from ext_proc.config import Config
from ext_proc.http2.limits import Limits, Rate
from mesh.settings import Settings

PAGE = (Path(__file__).parents[1] / "docs/bounds.md").read_text()

# A name that says that it is a bound: one of these words in it.
WORDS = re.compile(r"(?:^|_)(?:max|most|limit|limits|bytes|longest|largest|backlog|shown)(?:_|$)", re.IGNORECASE)

NO_BOUNDS = {
    "ext_proc.edge.sessions._KEY_BYTES": "of a digest",
    "ext_proc.wire.v2.sequence._MAX_ID": "of the protocol",
    "ext_proc.admin.ui.watching._LONGEST_PAUSE": "a pause of ours",
    "ext_proc.admin.ui.settings.MAX_PEERS": "of the configuration",
    "ext_proc.broker.estimates._MOST_MS": "the ends of a histogram",
    "ext_proc.broker.resolver._MAX_DEPTH": "of the configuration",
    "ext_proc.cli.plan.command.DEFAULT_MAX_ROWS": "of a command line",
    "ext_proc.cli.plan.measuring._MOST_ROWS": "of a command line",
    "ext_proc.kuma.checking.documents._READ_AT_MOST": "of a command line",
    "ext_proc.planning.curve.MAX_ROWS": "of a command line",
    "ext_proc.planning.fleet.change.MOST_NODES": "of a command line",
    "ext_proc.planning.fleet.profile._MOST_RUNS": "of what a command reads",
    "ext_proc.recording.blocks._MOST_US": "of a column",
    "ext_proc.planning.plan.MOST_BYTES": "of the configuration",
    "ext_proc.planning.plan.MOST_GPUS": "of a command line",
    "ext_proc.envoy_config.parts.grpc_names.READ_BYTES": "Envoy's: docs/limits-of-envoy.md",
    "ext_proc.envoy_config.parts.access_log.BUFFER_BYTES": "when Envoy sends what it has",
    "ext_proc.envoy_config.parts.codec.MAX_HEADERS": "Envoy's: docs/limits-of-envoy.md",
    "ext_proc.envoy_config.parts.codec.MAX_HEADERS_KIB": "Envoy's: docs/limits-of-envoy.md",
    "ext_proc.http2.frames.MIN_FRAME_BYTES": "of the protocol",
    "ext_proc.node.resident_models._LONGEST_BAN": "for how long a node is asked about a model whose calls fail",
    "ext_proc.http2.frames.MAX_FRAME_BYTES": "of the protocol",
    "ext_proc.http2.frames.MAX_WINDOW": "of the protocol",
    "ext_proc.listen_address._MAX_PATH": "of the configuration",
    "ext_proc.upstream.client._LONGEST_REDIAL": "a pause of ours",
    "ext_proc.wire.framing._MOST_RATIO": "of the compression; what it unpacks to is `limits.body_bytes`",
    "mesh.model_cache.config_pbtxt._SHOWN": "of what a parser says",
    "ext_proc.wire.protobuf.fields.MAX_TAG": "of the protocol",
    "ext_proc.wire.protobuf.fields.MAX_VARINT_BYTES": "of the protocol",
    "mesh.address.MAX_SOCKET_PATH": "of the configuration",
    "mesh.bounded._SLOT_BYTES": "what a dictionary takes",
    "mesh.discovery.registry.LONGEST_PAUSE": "a pause of ours",
    "mesh.discovery.registration.consul._MOST_META": "of the configuration",
    "mesh.discovery.registration.keeping._LONGEST_PAUSE": "a pause of ours",
    "mesh.discovery.flapping.LONGEST_HOLD": "a pause of ours",
    "mesh.json_http._SHOWN": "of a line of the log",
    "mesh.json_http._PARSE_APART_BYTES": "where work is done, not whether",
    "mesh.model_cache.loaders.tfserving._POLL_MOST": "a pause of ours",
    "mesh.model_cache.loaders.triton._POLL_MOST": "a pause of ours",
    "mesh.model_cache.loads.unloading._RETRY_MOST": "a pause of ours",
    "mesh.model_cache.store_index._BACK_OFF_MOST": "a pause of ours",
    "mesh.model_cache.stores.object_store._SHOWN": "of a line of the log",
    "mesh.model_server.runner.INLINE_BYTES": "where work is done, not whether",
    # Settings.
    "discovery.most_seconds": "a pause of ours",
    "models.limit_ms": "an operator's limit for one model",
    "envoy.limits.body_buffer_bytes": "Envoy's",
    "envoy.limits.longest_tloc_seconds": "Envoy's",
    "batching.default.max_bytes": "as `node.batching.default.max_bytes`",
    "batching.default.max_rows": "as `node.batching.default.max_rows`",
    "batching.models.max_bytes": "as `node.batching.default.max_bytes`",
    "batching.models.max_rows": "as `node.batching.default.max_rows`",
    "envoy.limits.named_message_bytes": "Envoy's: docs/limits-of-envoy.md",
    "node.batching.models.max_bytes": "of one model: `node.batching.default.max_bytes`",
    "node.batching.models.max_rows": "of one model: `node.batching.default.max_rows`",
    "node.cache.back_off.most_seconds": "a pause of ours",
    "node.cache.capacity.disk_bytes": "a capacity: models are evicted",
    "node.cache.capacity.memory_bytes": "a capacity: models are evicted",
    "node.cache.memory_bytes": "a declaration",
    "node.cache.reserve.disk_bytes": "a capacity: models are evicted",
    "node.cache.reserve.memory_bytes": "a capacity: models are evicted",
    "residency.retry_most": "a pause of ours",
    "routing.max_replicas": "how far calls are spread",
    "mesh.model_server.repository.Knobs.memory_bytes": "a declaration",
}

UNITS = {"KiB": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30, "TiB": 1 << 40}
NUMBER = re.compile(r"(\d[\d,]*(?:\.\d+)?)(?: ([KMGT]iB)\b)?")


def rows() -> Iterator[tuple[str, str, str]]:
    """(where, default, beyond) of every row of every table."""
    for line in PAGE.splitlines():
        cells = [cell.strip() for cell in line.split("|")[1:-1]]
        if len(cells) == 4 and cells[1].startswith("`"):
            yield cells[1].strip("`"), cells[2], cells[3]


def told(cell: str) -> list[float]:
    """The numbers of a cell, in bytes where it says KiB and the like."""
    return [float(number.replace(",", "")) * UNITS.get(unit, 1) for number, unit in NUMBER.findall(cell)]


def default(where: str) -> object:
    """The default of a setting, or the value of a constant."""
    names = where.split(".")
    if names[0] not in ("ext_proc", "mesh"):
        return _field(Config, names)
    owner: Any = importlib.import_module(names[0])
    for at, name in enumerate(names[1:], start=1):
        if isinstance(owner, type) and issubclass(owner, BaseModel):
            return _field(owner, names[at:])
        if dataclasses.is_dataclass(owner):
            (field,) = [field for field in dataclasses.fields(owner) if field.name == name]
            return field.default
        if isinstance(owner, ModuleType) and not hasattr(owner, name):
            importlib.import_module(f"{owner.__name__}.{name}")
        owner = getattr(owner, name)
    return owner


def _field(owner: type[BaseModel], names: list[str]) -> object:
    for name, after in pairwise(names):
        # Of several kinds of section the one that has such a setting.
        (owner,) = [found for found in _sections(owner.model_fields[name].annotation) if after in found.model_fields]
    return owner.model_fields[names[-1]].default


def _sections(annotation: Any) -> list[type[Settings]]:
    """The sections of the configuration in a field's type: `Settings | None`, `dict[str, Settings]`, ..."""
    if isinstance(annotation, type) and issubclass(annotation, Settings):
        return [annotation]
    return [found for part in get_args(annotation) for found in _sections(part)]


def expected(value: object) -> list[float]:
    if isinstance(value, Rate):
        return [value.burst, value.per_second]
    assert isinstance(value, int | float), value
    return [float(value)]


@pytest.mark.parametrize(("where", "cell", "beyond"), list(rows()), ids=[where for where, _, _ in rows()])
def test_the_page_tells_the_default_and_what_comes_beyond_it(where: str, cell: str, beyond: str) -> None:
    assert told(cell) == expected(default(where))
    assert beyond


@cache
def modules() -> list[ModuleType]:
    packages = [pkgutil.walk_packages(package.__path__, f"{package.__name__}.") for package in (ext_proc, mesh)]
    names = [info.name for info in chain.from_iterable(packages)]
    return [importlib.import_module(name) for name in names if not name.endswith("_pb2")]


def constants() -> Iterator[str]:
    """Numbers in capitals of every module, and of the classes that it defines, whose name says that they are bounds."""
    for module in modules():
        assert module.__file__ is not None
        assigned = re.findall(r"^((?:_?[A-Z][A-Z0-9_]*(?:, )?)+)(?:: .*)? = ", Path(module.__file__).read_text(), re.M)
        for name in ", ".join(assigned).split(", "):
            if WORDS.search(name) and isinstance(getattr(module, name), int | float):
                yield f"{module.__name__}.{name}"
        for owner in defined(module):
            for name, value in vars(owner).items():
                if name.isupper() and WORDS.search(name) and isinstance(value, int | float):
                    yield f"{module.__name__}.{owner.__name__}.{name}"


def defined(module: ModuleType) -> Iterator[type]:
    for owner in vars(module).values():
        if isinstance(owner, type) and owner.__module__ == module.__name__ and not issubclass(owner, Enum):
            yield owner


def settings(owner: type[BaseModel] = Config, path: str = "") -> Iterator[str]:
    """Every setting of the configuration with such a name, as the page would write it."""
    for name, field in owner.model_fields.items():
        sections = _sections(field.annotation)
        for section in sections:
            yield from settings(section, f"{path}{name}.")
        if not sections and WORDS.search(name):
            yield path + name


def other_settings() -> Iterator[str]:
    """Those of the commands that have no configuration file."""
    within = {base for section in _within(Config) for base in section.__mro__}
    for module in modules():
        for owner in defined(module):
            if issubclass(owner, Settings) and owner not in within:
                fields = owner.model_fields
                yield from (f"{module.__name__}.{owner.__name__}.{name}" for name in fields if WORDS.search(name))


def _within(owner: type[BaseModel]) -> Iterator[type[BaseModel]]:
    yield owner
    for field in owner.model_fields.values():
        for section in _sections(field.annotation):
            yield from _within(section)


def test_every_bound_in_the_code_has_a_row() -> None:
    limits = {f"{Limits.__module__}.{Limits.__name__}.{field.name}" for field in dataclasses.fields(Limits)}
    bounds = {*constants(), *settings(), *other_settings(), *limits}
    listed = {where for where, _, _ in rows()}
    assert {where: default(where) for where in sorted(bounds - listed - NO_BOUNDS.keys())} == {}
    assert set(NO_BOUNDS) - bounds == set(), "no longer there"
    assert listed & NO_BOUNDS.keys() == set()


def test_no_bound_has_two_rows() -> None:
    listed = [where for where, _, _ in rows()]
    assert sorted(set(listed)) == sorted(listed)
