"""What the server says of a call and the map is what Envoy makes of them: the same calls are known to both."""

from collections.abc import Mapping

from envoy_data_plane.envoy.config.route.v3 import HeaderMatcher, Route, RouteMatch, RouteMatchGrpcRouteMatchOptions
from envoy_data_plane.envoy.extensions.common.matching.v3 import ExtensionWithMatcher
from envoy_data_plane.xds.type.matcher.v3 import MatcherMatcherListPredicate
from hypothesis import given
from hypothesis import strategies as st

from ext_proc.contract import BEYOND_THE_NAME, KNOWN_METHODS, STEERING_HEADERS
from ext_proc.envoy_config.bootstrap.grpc_name_routes import grpc_name_routes
from ext_proc.envoy_config.parts.grpc_names import IN_HEADER, grpc_name_filters
from ext_proc.errors import CallError
from ext_proc.known.forms import FORMS, Form, form_of, says_more, spelling
from ext_proc.known.map_file import MapWriter
from ext_proc.processing.request import BodyMode, Head
from ext_proc.wire.call import Call
from ext_proc.wire.content_type import is_grpc
from ext_proc.wire.naming import name_call
from mesh.known_map import PARTS, KnownModel
from tests.ext_proc.known.test_map_file import composite, holds, read

NAMES = ("m", "odd name", "a%b", "a:b", "ä", "versions")
MAP = MapWriter(10).write(
    [KnownModel(name, 31, {"rest": ((PARTS, ("a",)),), "grpc": ((PARTS, ("b",)),)}) for name in NAMES], "v1"
)
REST, GRPC = read(MAP, "v1")
_LIST = composite(MAP, "v1").matcher_list
assert _LIST is not None
ON_GRPC, ON_REST = (each.predicate for each in _LIST.matchers)


def _says_its_model() -> MatcherMatcherListPredicate:
    """In front of the filter that copies the name out of a header, where routes are not ours."""
    _, named = grpc_name_filters(1 << 20)
    assert named.typed_config is not None
    chosen = named.typed_config.unpack()
    assert isinstance(chosen, ExtensionWithMatcher)
    assert chosen.xds_matcher is not None
    assert chosen.xds_matcher.matcher_list is not None
    predicate = chosen.xds_matcher.matcher_list.matchers[0].predicate
    assert predicate is not None
    return predicate


NAMED = _says_its_model()
ROUTES = [
    route
    for route in grpc_name_routes(
        Route(match=RouteMatch(prefix="/", grpc=RouteMatchGrpcRouteMatchOptions())), 1024, "1.40"
    )
    if IN_HEADER in route.typed_per_filter_config
]

STEERING = frozenset(STEERING_HEADERS)

names = st.sampled_from(NAMES)
paths = st.one_of(
    st.builds(spelling, st.sampled_from([form for form in FORMS if form is not Form.GRPC]), names),
    st.builds("/v1/models/{}:predict".format, names),
    st.builds("/v1/models/{}/versions/3:predict".format, names),
    st.builds("{}?x=1".format, st.builds(spelling, st.just(Form.TFS_PREDICT), names)),
    st.sampled_from(["/v1/models/%6d:predict", "/v1/models/m", "/v2/models/m/ready", "/v1/models/m:Predict"]),
)
extras = st.dictionaries(
    st.sampled_from([*BEYOND_THE_NAME, "grpc-timeout", "x-other"]),
    st.sampled_from(["", "5m", "5", "x"]),
    max_size=1,
)


def leads(route: Route, headers: Mapping[str, str]) -> bool:
    """Whether Envoy takes this route, and so passes its filters: a gRPC call all of whose headers match."""
    assert route.match is not None
    return is_grpc(headers.get("content-type", "")) and all(matches(each, headers) for each in route.match.headers)


def matches(wanted: HeaderMatcher, headers: Mapping[str, str]) -> bool:
    if wanted.present_match:
        return (wanted.name in headers) is not wanted.invert_match
    value, text = headers.get(wanted.name), wanted.string_match
    assert text is not None
    if text.contains is not None:
        assert wanted.invert_match
        return value is not None and text.contains not in value
    return value == text.exact


@st.composite
def heads(draw: st.DrawFn) -> Head:
    headers = draw(extras) | {":method": draw(st.sampled_from(["POST", "POST", "POST", "GET"]))}
    if draw(st.booleans()):
        headers[":path"] = draw(paths)
    else:
        other = ["/tensorflow.serving.PredictionService/GetModelMetadata", "/inference.GRPCInferenceService/ModelReady"]
        headers[":path"] = draw(st.sampled_from([*KNOWN_METHODS, *other]))
        headers["content-type"] = draw(st.sampled_from(["application/grpc", "application/grpc+proto"]))
        headers["x-tbms-model"] = spelling(Form.GRPC, draw(names)) + draw(st.sampled_from(["", "", "/versions/3"]))
    return Head(headers, False, BodyMode.NONE)


def is_known(headers: dict[str, str]) -> bool:
    """As Envoy decides by the map: a path of REST, or a gRPC call by its name, where that was written."""
    if headers[":path"] in REST and holds(ON_REST, headers):
        return True
    named = {"x-tbms-named": headers["x-tbms-model"]} if holds(NAMED, headers) else {}
    if STEERING.isdisjoint(headers):  # of a client's they are removed before the route is chosen
        assert any(leads(each, headers) for each in ROUTES) is bool(named), "either way the same calls are named"
    return holds(ON_GRPC, headers | named) and named.get("x-tbms-named") in GRPC


@given(heads())
def test_the_server_and_the_map_agree_on_what_says_no_more_than_a_name(head: Head) -> None:
    headers = dict(head.headers)
    try:
        call = name_call(headers, 0)
    except CallError:  # the server refuses it: nobody has spelled such a path into the map
        assert not is_known(headers)
        return
    assert isinstance(call, Call) or call is None
    plain = call is not None and bool(form := form_of(head, call)) and not says_more(head, call, form)
    assert plain == is_known(headers)
