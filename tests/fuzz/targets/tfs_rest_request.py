"""Bodies of TF Serving's REST predictions, as the embedded model server reads them."""

from mesh.model_server.errors import ServingError
from mesh.model_server.tfs import rest_request
from mesh.tensors.dtypes import BY_V2, TensorSpec
from tests.fuzz.reader import Reader
from tests.fuzz.target import Target
from tests.fuzz.targets.json_text import WORDS

MODELS = (
    [TensorSpec("x", BY_V2["FP32"], (-1, 2))],
    [TensorSpec("a", BY_V2["INT8"], (-1,)), TensorSpec("b_bytes", BY_V2["BYTES"], (-1,))],
    [
        TensorSpec("u", BY_V2["UINT64"], (-1,)),
        TensorSpec("h", BY_V2["FP16"], (-1,)),
        TensorSpec("t", BY_V2["BOOL"], ()),
    ],
)


def run(data: bytes) -> None:
    reader = Reader(data)
    specs, body = reader.pick(MODELS), reader.rest()
    try:
        document = rest_request.parse_object(body)
        rest_request.signature_of(document)
        arrays, _ = rest_request.decode(document, specs)
    except ServingError as error:
        error.message.encode(errors="surrogateescape")
        return
    assert arrays.keys() <= {spec.name for spec in specs}


TARGET = Target(
    run,
    (
        b'\0{"signature_name": "s", "instances": [[1, 2], [3, 4.5]]}',
        b'\1{"inputs": {"a": [1, -129], "b_bytes": ["e", {"b64": "/w=="}]}}',
        b'\2{"instances": [{"u": 18446744073709551615, "h": 1, "t": true}]}',
    ),
    (b'"instances": [', b'"inputs": ', b'{"b64": "', b'"signature_name": ', b'"a": ', b'"b_bytes": ', *WORDS),
)
