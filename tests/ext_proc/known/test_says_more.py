"""What the server says of a call and the map is what Envoy makes of them: the same calls are known to both."""

from hypothesis import given
from hypothesis import strategies as st

from ext_proc.contract import BEYOND_THE_NAME
from ext_proc.errors import CallError
from ext_proc.known.forms import FORMS, GRPC_METHODS, Form, form_of, says_more, spelling
from ext_proc.known.map_file import MapWriter
from ext_proc.processing.request import BodyMode, Head
from ext_proc.wire.call import Call
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
ON_REST, ON_GRPC = (each.predicate for each in _LIST.matchers)

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


@st.composite
def heads(draw: st.DrawFn) -> Head:
    headers = draw(extras) | {":method": draw(st.sampled_from(["POST", "POST", "POST", "GET"]))}
    if draw(st.booleans()):
        headers[":path"] = draw(paths)
    else:
        other = ["/tensorflow.serving.PredictionService/GetModelMetadata", "/inference.GRPCInferenceService/ModelReady"]
        headers[":path"] = draw(st.sampled_from([*GRPC_METHODS, *other]))
        headers["content-type"] = draw(st.sampled_from(["application/grpc", "application/grpc+proto"]))
        headers["x-tbms-named"] = spelling(Form.GRPC, draw(names)) + draw(st.sampled_from(["", "", "/versions/3"]))
    return Head(headers, False, BodyMode.NONE)


def is_known(headers: dict[str, str]) -> bool:
    """As Envoy decides by the map: a path of REST, or a gRPC call by its name."""
    return (headers[":path"] in REST and holds(ON_REST, headers)) or (
        holds(ON_GRPC, headers) and headers.get("x-tbms-named", "") in GRPC
    )


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
