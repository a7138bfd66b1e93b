"""What the tables of TF Serving share. It cannot be run here: a reply is what the report or the source says.

`double` takes x, float of [-1, 2], and gives y = 2 * x; `two` takes a and b of [-1] and gives sum and difference;
`text`, `picture`, `long`, `wide`, `tiny`, `half` and `flag` give back what they take, of [-1].
"""

from typing import Any

from tests.integration.parity.row import OURS, Http, Reply, Row

TENSOR = "tensorflow/serving: util/json_tensor.cc"
PATHS = "tensorflow/serving: model_servers/http_rest_api_util.cc"
SERVER = "tensorflow/serving: model_servers/http_server.cc"
NET = "tensorflow/serving: util/net_http/server/internal/evhttp_request.cc"
GOOD = '{"instances": [[1, 2]]}'
ANSWER = b'{\n    "predictions": [[2.0, 4.0]\n    ]\n}'


def tfs(about: str, source: str, request: Http, status: int, body: Any = None, **more: Any) -> Row:
    """A row of TF Serving's REST API."""
    return Row(about, source, request, Reply(status, body), OURS, **more)


def element(number: int, words: str, key: str = "") -> str:
    """What is amiss with one of the instances."""
    where = f"Failed to process element: {number}{f' key: {key}' if key else ''} of 'instances' list."
    return f"{where} Error: INVALID_ARGUMENT: {words}"


def unlike(value: str, kind: str, dtype: str) -> str:
    """What is amiss with a value of another kind."""
    return f"JSON Value: {value} Type: {kind} is not of expected type: {dtype}"


def broken(words: str, offset: int) -> str:
    """What is amiss with JSON that is none."""
    return f"JSON Parse error: {words} at offset: {offset}"
