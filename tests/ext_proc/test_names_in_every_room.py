"""A model that one room accepts is refused by none: all of them keep the rule of `mesh.names`."""

import json
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from ext_proc.broker.fields import FieldError, read_candidate
from ext_proc.envoy_config.settings import EnvoySettings
from ext_proc.errors import CallError
from ext_proc.wire import names as wire_names
from mesh.discovery.settings import NodeSettings
from mesh.model_cache.books import names as cache_names
from mesh.model_cache.errors import BadName
from mesh.model_server.repository import is_valid_name
from mesh.names import name_fault
from mesh.residency.line import ResidencyError, read_line


def by_call(name: str) -> bool:
    return bool(wire_names.check_name(name))


def by_cache(name: str) -> bool:
    return bool(cache_names.check_name(name))


def by_header(name: str) -> bool:
    escaped = "".join(f"%{byte:02x}" for byte in name.encode("utf-8", "surrogatepass"))
    return read_candidate(f'%"{escaped}"').model == name


def by_node(name: str) -> bool:
    return NodeSettings(id="a", grpc="10.0.0.1:1", models=(name,)).models == (name,)


def by_envoy(name: str) -> bool:
    return EnvoySettings(body_models=(name,)).body_models == (name,)


def by_residency(name: str) -> bool:
    line = {"v": 1, "full": True, "models": {name: "available"}, "leaving": False, "free": {}}
    return list(read_line(json.dumps(line).encode()).models) == [name]


REFUSALS = (CallError, BadName, FieldError, ValidationError, ResidencyError)
ROOMS = [by_call, by_cache, by_header, by_node, by_envoy, by_residency, is_valid_name]
EDGES = st.sampled_from([
    "", ".", "..", "...", "a/b", "a\\b", "a\x00", "a\n", "a\x85", "a\xa0b", "a\u2028", "a\u200bb", "\ud800",
    "odd name", "-x", "bert:3", "é" * 127, "é" * 128, "x" * 255, "x" * 256, "x" * 1000,
])  # fmt: skip


@pytest.mark.parametrize("room", ROOMS)
@given(name=EDGES | st.text(max_size=20))
def test_a_room_takes_what_the_rule_takes(room: Callable[[str], bool], name: str) -> None:
    try:
        taken = room(name)
    except REFUSALS:
        taken = False
    assert taken is (name_fault(name) is None)
