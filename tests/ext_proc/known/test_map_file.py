"""The map's file, read back through Envoy's typed messages: it says what was to be said, of any names."""

import re
from collections.abc import Mapping

import pytest
from envoy_data_plane.envoy.config.core.v3 import TypedExtensionConfig
from envoy_data_plane.envoy.extensions.common.matching.v3 import ExtensionWithMatcher
from envoy_data_plane.envoy.extensions.filters.http.composite.v3 import Composite, ExecuteFilterAction
from envoy_data_plane.envoy.extensions.filters.http.set_metadata.v3 import Config as SetMetadata
from envoy_data_plane.envoy.extensions.matching.input_matchers.consistent_hashing.v3 import ConsistentHashing
from envoy_data_plane.envoy.service.discovery.v3 import DiscoveryResponse
from envoy_data_plane.envoy.type.matcher.v3 import HttpRequestHeaderMatchInput
from envoy_data_plane.xds.type.matcher.v3 import Matcher, MatcherMatcherListPredicate, MatcherOnMatch
from hypothesis import given
from hypothesis import strategies as st

from ext_proc.contract import (
    BEYOND_THE_NAME,
    CALL_HEADER,
    CLAIM_HEADER,
    HOP_HEADER,
    KNOWN_FILTER,
    KNOWN_METHODS,
    MODEL_HEADER,
    NODE_HEADER,
    RESIDENCY_HEADER,
    RETRIES_HEADER,
)
from ext_proc.known.forms import FORMS, Form, spelling
from ext_proc.known.map_file import MapWriter
from ext_proc.wire.call import Call
from ext_proc.wire.naming import name_call
from mesh.known_map import PARTS, KnownModel, Shares
from mesh.names import name_fault

ENDPOINTS = st.lists(st.sampled_from([f"10.0.0.{n}:8501" for n in range(5)]), min_size=1, max_size=4, unique=True)
NAMES = st.text(min_size=1, max_size=40).filter(lambda name: name_fault(name) is None)


@st.composite
def shares(draw: st.DrawFn) -> Shares:
    cuts = sorted(draw(st.sets(st.integers(1, PARTS - 1), max_size=3)))
    parts = [high - low for low, high in zip([0, *cuts], [*cuts, PARTS], strict=True)]
    return tuple((each, tuple(draw(ENDPOINTS))) for each in parts)


@st.composite
def models(draw: st.DrawFn) -> KnownModel:
    told = {kind: draw(shares()) for kind in draw(st.sets(st.sampled_from(["rest", "grpc"]), min_size=1))}
    return KnownModel(draw(NAMES), draw(st.integers(1, 31)), told)


@given(st.lists(models(), max_size=6, unique_by=lambda model: model.name))
def test_it_says_what_is_known_and_nothing_else(known: list[KnownModel]) -> None:
    rest, grpc = read(MapWriter(10).write(known, "v7"), "v7")
    expected: dict[str, dict[str, Shares]] = {"rest": {}, "grpc": {}}
    for model in known:
        for form in FORMS:
            if model.forms & form and form.kind in model.shares:
                expected[form.kind][spelling(form, model.name)] = model.shares[form.kind]
    assert rest == expected["rest"]
    assert grpc == expected["grpc"]


@given(st.sampled_from(FORMS), NAMES)
def test_a_spelling_means_the_model_and_nothing_else(form: Form, model: str) -> None:
    said = spelling(form, model)
    assert re.fullmatch(r"[!-~]+", said)
    headers = {":path": said}
    if form is Form.GRPC:
        headers = {":path": KNOWN_METHODS[0], "content-type": "application/grpc", "x-tbms-model": said}
    call = name_call(headers, 1 << 20)
    assert isinstance(call, Call)
    assert (call.model, call.version, call.label) == (model, None, None)


@pytest.mark.parametrize("name", ['a"b', "a'b", "a.b", "a%b", "a%2Fb", "ä" * 127, "a b", "x" * 255, "a:b", "versions"])
def test_odd_names_are_spelled_exactly(name: str) -> None:
    model = KnownModel(name, int(Form.TFS_PREDICT | Form.V2_INFER), {"rest": ((PARTS, ("10.0.0.1:8501",)),)})
    rest, _ = read(MapWriter(1).write([model], "v1"), "v1")
    for path in rest:
        call = name_call({":path": path}, 1 << 20)
        assert isinstance(call, Call)
        assert call.model == name


def test_the_header_of_grpc_names_is_the_callers_choice() -> None:
    model = KnownModel("m", int(Form.GRPC), {"grpc": ((PARTS, ("10.0.0.1:8500",)),)})
    edges, nodes = MapWriter(1).write([model], "v1"), MapWriter(1, MODEL_HEADER).write([model], "v1")
    assert [content.count(b"x-tbms-named") for content in (edges, nodes)] == [1, 0]
    assert [content.count(b"x-tbms-model") for content in (edges, nodes)] == [0, 2]


def test_a_new_version_is_another_filter() -> None:
    """Envoy passes over what is the same: it would not say that its workers have it."""
    one, two = (MapWriter(1).write([], version) for version in ("t.1", "t.2"))
    assert len(one) == len(two)
    assert one.count(b"t.1") == 2, "the version of the file, and in the filter"
    assert one.replace(b"t.1", b"t.2") == two


def test_a_map_that_knows_nothing_is_a_filter_that_does_nothing() -> None:
    matcher = composite(MapWriter(1).write([], "v1"), "v1")
    assert matcher.matcher_list is None
    assert matcher.matcher_tree is None
    assert matcher.on_no_match is None


def test_whoever_says_more_than_a_name_is_not_known() -> None:
    model = KnownModel("m", 31, {"rest": ((PARTS, ("a",)),), "grpc": ((PARTS, ("b",)),)})
    found = composite(MapWriter(1, MODEL_HEADER).write([model], "v1"), "v1").matcher_list
    assert found is not None
    grpc, rest = (each.predicate for each in found.matchers)
    plain = {":method": "POST", ":path": "/v1/models/m:predict"}
    called = {":method": "POST", ":path": KNOWN_METHODS[0], "content-type": "application/grpc", "x-tbms-model": "m"}
    assert holds(rest, plain)
    assert holds(grpc, called)
    assert holds(grpc, called | {"content-type": "application/grpc+proto"})
    assert holds(grpc, called | {"grpc-timeout": "1500m"})
    assert not holds(rest, plain | {":method": "GET"})
    assert not holds(grpc, called | {"content-type": "application/grpc-web"})
    assert not holds(grpc, called | {":path": "/tensorflow.serving.PredictionService/GetModelMetadata"})
    for name in BEYOND_THE_NAME:
        assert not holds(rest, plain | {name: ""}), name
        assert not holds(grpc, called | {name: "x"}), name
    for timeout in ("", "5", "123456789m", "5m,5m", "-1S"):
        assert not holds(rest, plain | {"grpc-timeout": timeout}), timeout
        assert not holds(grpc, called | {"grpc-timeout": timeout}), timeout


def test_where_envoy_names_only_what_may_be_known_just_the_deadline_is_looked_at() -> None:
    model = KnownModel("m", int(Form.GRPC), {"grpc": ((PARTS, ("b",)),)})
    found = composite(MapWriter(1).write([model], "v1"), "v1").matcher_list
    assert found is not None
    (grpc,) = (each.predicate for each in found.matchers)
    assert holds(grpc, {"x-tbms-named": "m"})
    assert holds(grpc, {"x-tbms-named": "m", "grpc-timeout": "1500m"})
    assert not holds(grpc, {"x-tbms-named": "m", "grpc-timeout": "5"})


def test_the_headers_that_go_beyond_a_name_are_all_that_edges_read_or_remove() -> None:
    assert set(BEYOND_THE_NAME) == {
        "tloc", "backup", "primary", "tbms-key", "tbms-session",
        NODE_HEADER, HOP_HEADER, RESIDENCY_HEADER, CALL_HEADER, CLAIM_HEADER, RETRIES_HEADER,
    }  # fmt: skip


def test_what_stays_is_not_written_twice() -> None:
    writer = MapWriter(10)
    stays = KnownModel("stays", 1, {"rest": ((PARTS, ("10.0.0.1:8501",)),)})
    moves = KnownModel("moves", 1, {"rest": ((PARTS, ("10.0.0.1:8501",)),)})
    first = writer.write([stays, moves], "v1")
    moved = KnownModel("moves", 1, {"rest": ((PARTS, ("10.0.0.2:8501",)),)})
    second = writer.write([stays, moved], "v1")
    assert second == MapWriter(10).write([stays, moved], "v1") != first


@pytest.mark.parametrize("tells", [False, True])
def test_who_is_told_the_model_is_said_of_grpc_calls(tells: bool) -> None:
    shares: dict[str, Shares] = {"rest": ((PARTS, ("a",)),), "grpc": ((20, ("b",)), (40, ("c",)))}
    content = MapWriter(1).write([KnownModel("m", 31, shares, tells)], "v1")
    assert read(content, "v1")[1] == {"m": shares["grpc"]}
    assert content.count(b"tell") == (2 if tells else 0), "one for each share of the gRPC calls, none for REST"
    assert content.count(b"\x0a\x05model") == 2, "for the log, of gRPC calls alone: a path says it itself"
    assert b"tell" not in MapWriter(1, MODEL_HEADER).write([KnownModel("m", 31, shares, tells)], "v1"), "a node's"


@pytest.mark.parametrize("sampled", [False, True])
def test_of_which_calls_some_stand_for_the_others_is_said_of_every_form(sampled: bool) -> None:
    shares: dict[str, Shares] = {"rest": ((PARTS, ("a",)),), "grpc": ((20, ("b",)), (40, ("c",)))}
    content = MapWriter(1).write([KnownModel("m", 31, shares, tells=True, sampled=sampled)], "v1")
    assert read(content, "v1")[1] == {"m": shares["grpc"]}
    assert content.count(b"one-in") == (6 if sampled else 0)
    assert content.count(b"tell") == 2


def composite(content: bytes, version: str) -> Matcher:
    response = DiscoveryResponse.parse(content)
    (resource,) = response.resources
    extension = resource.unpack()
    assert isinstance(extension, TypedExtensionConfig)
    assert (response.version_info, extension.name) == (version, KNOWN_FILTER)
    assert extension.typed_config is not None
    wrapped = extension.typed_config.unpack()
    assert isinstance(wrapped, ExtensionWithMatcher)
    assert wrapped.extension_config is not None
    assert wrapped.extension_config.typed_config is not None
    assert isinstance(wrapped.extension_config.typed_config.unpack(), Composite)
    return wrapped.xds_matcher or Matcher()


def read(content: bytes, version: str) -> tuple[dict[str, Shares], dict[str, Shares]]:
    """The cases of a file: path -> shares, and name -> shares."""
    found: dict[str, dict[str, Shares]] = {":path": {}, "x-tbms-named": {}}
    listed = composite(content, version).matcher_list
    for each in listed.matchers if listed is not None else ():
        assert each.on_match is not None
        assert each.on_match.matcher is not None
        tree = each.on_match.matcher.matcher_tree
        assert tree is not None
        assert tree.exact_match_map is not None
        cases = tree.exact_match_map.map.items()
        found[header_of(tree.input)] = {value: told(on_match) for value, on_match in cases}
    return found[":path"], found["x-tbms-named"]


def header_of(wanted: object) -> str:
    assert isinstance(wanted, object)
    config = wanted.typed_config.unpack()  # type: ignore[attr-defined]
    assert isinstance(config, HttpRequestHeaderMatchInput)
    return config.header_name


def told(on_match: MatcherOnMatch) -> Shares:
    if on_match.matcher is None:
        return ((PARTS, nodes(on_match)),)
    assert on_match.matcher.matcher_list is not None
    assert on_match.matcher.on_no_match is not None
    found, below = [], 0
    for each in on_match.matcher.matcher_list.matchers:
        assert each.predicate is not None
        assert each.on_match is not None
        single = each.predicate.single_predicate
        assert single is not None
        assert single.custom_match is not None
        assert header_of(single.input) == "x-request-id"
        hashing = single.custom_match.typed_config.unpack()  # type: ignore[union-attr]
        assert isinstance(hashing, ConsistentHashing)
        assert hashing.modulo == PARTS
        # Envoy: the predicate holds where hash % modulo >= threshold.
        parts = PARTS - hashing.threshold - below
        found.append((parts, nodes(each.on_match)))
        below += parts
    return (*found, (PARTS - below, nodes(on_match.matcher.on_no_match)))


def nodes(on_match: MatcherOnMatch) -> tuple[str, ...]:
    action = on_match.action.typed_config.unpack()  # type: ignore[union-attr]
    assert isinstance(action, ExecuteFilterAction)
    config = action.typed_config.typed_config.unpack()  # type: ignore[union-attr]
    assert isinstance(config, SetMetadata)
    metadata = config.metadata[0]
    assert metadata.metadata_namespace == "tbms"
    assert metadata.value is not None
    return tuple((metadata.value.fields["tbms-known"].string_value or "").split(","))


def holds(predicate: MatcherMatcherListPredicate | None, headers: Mapping[str, str]) -> bool:
    """As Envoy evaluates it: a header that is not there matches nothing."""
    assert predicate is not None
    if predicate.and_matcher is not None:
        return all(holds(each, headers) for each in predicate.and_matcher.predicate)
    if predicate.or_matcher is not None:
        return any(holds(each, headers) for each in predicate.or_matcher.predicate)
    if predicate.not_matcher is not None:
        return not holds(predicate.not_matcher, headers)
    single = predicate.single_predicate
    assert single is not None
    assert single.value_match is not None
    value, match = headers.get(header_of(single.input)), single.value_match
    if value is None:
        return False
    if match.safe_regex is not None:
        return re.fullmatch(match.safe_regex.regex, value) is not None
    return value == match.exact if match.exact is not None else value.startswith(match.prefix or "")
