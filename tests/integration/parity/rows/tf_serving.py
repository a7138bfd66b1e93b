"""TF Serving's REST API. It cannot be run here: what a row expects is said by the report or by its source.

`double` takes x, float of [-1, 2], and gives y = 2 * x; `two` takes a and b of [-1] and gives sum and difference;
`text`, `picture`, `long`, `wide`, `tiny`, `half` and `flag` give back what they take, of [-1].
"""

import gzip
import zlib

from tests.integration.parity.row import OURS, Has, Http, Like, Reply, Row, differs
from tests.integration.parity.rows.words import NO_BYTES_OUT, NOT_UTF_8, by_edge, predict

TENSOR = "tensorflow/serving: util/json_tensor.cc"
PATHS = "tensorflow/serving: model_servers/http_rest_api_util.cc"
SERVER = "tensorflow/serving: model_servers/http_server.cc"
NET = "tensorflow/serving: util/net_http/server/internal/evhttp_request.cc"
CLASSIFIED = "tensorflow/serving: servables/tensorflow/classifier.cc"
GOOD = '{"instances": [[1, 2]]}'
ANSWER = b'{\n    "predictions": [[2.0, 4.0]\n    ]\n}'
JSON = {"content-type": "application/json"}


def _row(about: str, source: str, request: Http, status: int, body: object = None, **more: object) -> Row:
    return Row(about, source, request, Reply(status, body), OURS, **more)  # type: ignore[arg-type]


def _element(number: int, words: str, key: str = "") -> str:
    return f"Failed to process element: {number}{key} of 'instances' list. Error: INVALID_ARGUMENT: {words}"


def _json(words: str, offset: int) -> str:
    return f"JSON Parse error: {words} at offset: {offset}"


_BLOB = '{\n    "b64": "YQ=="\n}'
_OBJECT_FOR_FLOAT = f"JSON Value: {_BLOB} Type: Object is not of expected type: float"
_PLAIN_FOR_TWO = "is a plain {}, but expecting {} as multiple input tensors required as per tensorinfo_map"
_OWN_WORDS = "The edge names the call by its path, and so words what is amiss with it itself; the status is the same."

BODIES = (
    _row("rows", TENSOR, predict(GOOD), 200, ANSWER),
    _row("columns", TENSOR, predict('{"inputs": [[1, 2]]}'), 200, {"outputs": [[2, 4]]}),
    _row("one input by its name, in rows", "tensorflow/serving#2099", predict('{"instances": [{"x": [1, 2]}]}'), 200, ANSWER),
    _row("one input by its name, in columns", "tensorflow/serving#2099", predict('{"inputs": {"x": [[1, 2]]}}'), 200, {"outputs": [[2, 4]]}),
    _row("two outputs in rows", TENSOR, predict('{"instances": [{"a": 2, "b": 1}]}', "two"), 200, {"predictions": [{"difference": 1, "sum": 3}]}),
    _row("two inputs as a plain list of rows", "tensorflow/hub#599", predict('{"instances": [1.0, 2.0]}', "two"), 400, "instances " + _PLAIN_FOR_TWO.format("list", "list of objects")),
    _row("lists of lists where names are needed", "tensorflow/serving#2082", predict('{"instances": [[[1], [2]]]}', "two"), 400, "instances " + _PLAIN_FOR_TWO.format("list", "list of objects")),
    _row("two inputs as a plain list of columns", "tensorflow/serving#1792", predict('{"inputs": [[1, 2]]}', "two"), 400, "inputs " + _PLAIN_FOR_TWO.format("value/list", "an object")),
    _row("rows of different lengths", "tensorflow/serving#1292", predict('{"instances": [{"x": [1, 2]}, {"x": [1]}]}'), 400, _element(1, "Expecting tensor size: 2 but got: 1", " key: x")),
    _row("images of different sizes", "tensorflow/serving#1630", predict('{"instances": [{"x": [1, 2, 3, 4]}, {"x": [1, 2]}]}'), 400, _element(1, "Expecting tensor size: 4 but got: 2", " key: x")),
    _row("rows of different shapes", TENSOR, predict('{"instances": [[1, 2], [[1, 2]]]}'), 400, _element(1, "Expecting shape [2] but got: [1,2]")),
    _row("an input that the signature lacks", "qiaoguan/deep-ctr-prediction#22", predict('{"signature_name": "serving_default", "instances": [{"age": [46.0], "x": [1, 2]}]}'), 400, _element(0, "JSON object: does not have named input: age", " key: age")),
    _row("an input that is not given, in rows", TENSOR, predict('{"instances": [{"a": 1}]}', "two"), 400, "Failed to process element: 0 of 'instances' list. JSON object: {\n    \"a\": 1\n} keys must be equal to: a,b"),
    _row("an input that is not given, in columns", TENSOR, predict('{"inputs": {"a": [1]}}', "two"), 400, "Missing named input: b in 'inputs' object."),
    _row("a list among objects", TENSOR, predict('{"instances": [{"x": [1, 2]}, [1, 2]]}'), 400, "Expecting object but got list at item 1 of input list"),
    _row("an object among lists", TENSOR, predict('{"instances": [[1, 2], {"x": [1, 2]}]}'), 400, "Expecting value/list but got object at item 1 of input list"),
    _row("ragged lists", TENSOR, predict('{"inputs": [[1, 2], [1]]}'), 400, "Encountered list at unexpected size: 1 at level: 1 expected size: 2"),
    _row("a value among lists", TENSOR, predict('{"inputs": [[1, 2], 3]}'), 400, "JSON Value: 3 found at incorrect level: 2 in the JSON DOM. Expected at level: 2"),
    _row("a list among values", TENSOR, predict('{"inputs": [1, [2]]}'), 400, "Encountered list at unexpected level: 1 expected < 1"),
    _row("a signature that there is not", "tensorpack/tensorpack#1457", predict('{"signature_name": "predict", "instances": [[1, 2]]}'), 400, 'Serving signature name: "predict" not found in signature def'),
    _row("a signature alone, to ask for its outputs", "tensorflow/serving#1676", predict('{"signature_name": "get_features"}'), 400, 'Serving signature name: "get_features" not found in signature def'),
    _row("the default signature by its name", "MaybeShewill-CV/CRNN_Tensorflow#275", predict('{"signature_name": "serving_default", "inputs": [[1, 2]]}'), 200, {"outputs": [[2, 4]]}),
    _row("a signature that is a number", TENSOR, predict('{"signature_name": 1}'), 400, "JSON Value: {\n    \"signature_name\": 1\n} not formatted correctly. 'signature_name' key must be a string value."),
    _row("an array at the top", TENSOR, predict("[1, 2]"), 400, "JSON Value: [1, 2] Is not object"),
    _row("an empty body", TENSOR, predict(""), 400, "JSON Parse error: The document is empty"),
    _row("text behind the document", TENSOR, predict(GOOD + " and more"), 200, ANSWER),
    _row("members that nobody knows", TENSOR, predict('{"instances": [[1, 2]], "more": {}}'), 200, ANSWER),
    _row("instances twice", TENSOR, predict('{"instances": [[1, 2]], "instances": [[5, 6]]}'), 200, ANSWER),
    _row("an input twice in one row", TENSOR, predict('{"instances": [{"x": [1, 2], "x": [5, 6]}]}'), 200, ANSWER),
    _row("an input twice, of another size", TENSOR, predict('{"instances": [{"x": [1, 2], "x": [5]}]}'), 400, _element(0, "Expecting tensor size: 2 but got: 1", " key: x")),
    _row("a path without a verb", "tensorflow/serving#1085", Http("POST", "/v1/models/double", GOOD.encode()), 400, "Malformed request: POST /v1/models/double"),
)  # fmt: skip

VALUES = (
    _row("an image for a model of floats, in rows", "tensorflow/serving#1442", predict('{"instances": [{"b64": "YQ=="}]}'), 400, _element(0, _OBJECT_FOR_FLOAT)),
    _row("an image for a model of floats, by name", "tensorflow/serving#1570", predict('{"instances": [{"x": {"b64": "YQ=="}}]}'), 400, _element(0, _OBJECT_FOR_FLOAT, " key: x")),
    _row("an image for a model of floats, in columns", "eragonruan/text-detection-ctpn#355", predict('{"inputs": {"x": {"b64": "YQ=="}}}'), 400, _OBJECT_FOR_FLOAT),
    _row("numbers for a model of strings", "aws/amazon-sagemaker-examples#444", predict('{"inputs": [1, 2, 3, 4]}', "text"), 400, "JSON Value: 1 Type: Number is not of expected type: string"),
    _row("fractions that float32 cannot hold exactly", "tensorflow/serving#1136", predict('{"instances": [[0.96, 1.24]]}'), 200, b'{\n    "predictions": [[1.92, 2.48]\n    ]\n}'),
    _row("very small numbers in the reply", "tensorflow/serving#1014", predict('{"instances": [[3e-07, 0.5]]}'), 200, b'{\n    "predictions": [[6e-07, 1.0]\n    ]\n}'),
    _row("seven digits in the reply", "tensorflow/serving#1332", predict('{"instances": [[1111111.0, 0.5]]}'), 200, b'{\n    "predictions": [[2222222.0, 1.0]\n    ]\n}'),
    _row("infinity in a reply", "tensorflow/serving#1218", predict('{"instances": [[Infinity, -Infinity]]}'), 200, b'{\n    "predictions": [[Infinity, -Infinity]\n    ]\n}'),
    _row("no number in a reply", "tensorflow/serving#1670", predict('{"instances": [[NaN, 1]]}'), 200, b'{\n    "predictions": [[NaN, 2.0]\n    ]\n}'),
    _row("no number, as the manual once spelled it", "tensorflow/serving#4071", predict('{"instances": [[Nan, 1]]}'), 400, _json("Invalid value.", 18)),
    _row("a number that ends at its point", "tensorflow/serving#1484", predict('{"inputs": [[1., 2]]}'), 400, _json("Miss fraction part in number.", 15)),
    _row("bytes written with octal escapes", "tensorflow/tensor2tensor#1239", predict('{"input":"\\n\\033"}'), 400, _json("Invalid escape character in string.", 12)),
    _row("a number beyond doubles", TENSOR, predict('{"instances": [[1e999, 1]]}'), 400, Like("JSON Parse error: Number too big to be stored in double. at offset: .*")),
    _row("a fraction for integers", TENSOR, predict('{"instances": [1.5]}', "long"), 400, _element(0, "JSON Value: 1.5 Type: Number is not of expected type: int64")),
    _row("an integer with a point", TENSOR, predict('{"instances": [1.0]}', "long"), 400, _element(0, "JSON Value: 1.0 Type: Number is not of expected type: int64")),
    _row("64 bits, exactly", TENSOR, predict('{"instances": [9007199254740993]}', "long"), 200, b'{\n    "predictions": [9007199254740993\n    ]\n}'),
    _row("more than 64 bits", TENSOR, predict('{"instances": [9223372036854775808]}', "long"), 400, _element(0, "JSON Value: 9223372036854775808 Type: Number is not of expected type: int64")),
    _row("a double, in all its digits", TENSOR, predict('{"instances": [0.1234567890123]}', "wide"), 200, {"predictions": [0.1234567890123]}),
    _row("a truth value", TENSOR, predict('{"instances": [true, false]}', "flag"), 200, {"predictions": [True, False]}),
    _row("a number for a truth value", TENSOR, predict('{"instances": [1]}', "flag"), 400, _element(0, "JSON Value: 1 Type: Number is not of expected type: bool")),
    _row("null", TENSOR, predict('{"instances": [null]}', "wide"), 400, _element(0, "JSON Value: null Type: Null is not of expected type: double")),
    _row("half precision", TENSOR, predict('{"instances": [1]}', "half"), 400, Like(".*Conversion of JSON Value: 1 to type: half")),
    _row("base64 of the alphabet for URLs", "tensorflow/serving#1141", predict('{"instances": [{"b64": "_-8="}]}', "text"), 400, _element(0, "Unable to base64 decode")),
    _row("base64 that is none", "tensorflow/serving#1169", predict('{"instances": [{"b64": "!!!!"}]}', "text"), 400, _element(0, "Unable to base64 decode")),
    _row("base64 in a row of its own name", TENSOR, predict('{"instances": [{"s": {"b64": "YQ=="}}]}', "text"), 200, {"predictions": ["a"]}),
    _row("base64 twice in one object", TENSOR, predict('{"instances": [{"b64": "YQ==", "b64": "Yg=="}]}', "text"), 400, _element(0, "JSON object: does not have named input: b64", " key: b64")),
    _row("base64 twice, for an input by its name", TENSOR, predict('{"inputs": {"s": [{"b64": "YQ==", "b64": "Yg=="}]}}', "text"), 400, 'JSON Value: {\n    "b64": "YQ==",\n    "b64": "Yg=="\n} not formatted correctly for base64 data'),
    _row("base64 beside something else", TENSOR, predict('{"inputs": {"s": [{"b64": "YQ==", "a": 1}]}}', "text"), 400, 'JSON Value: {\n    "b64": "YQ==",\n    "a": 1\n} not formatted correctly for base64 data'),
    _row("bytes come back in base64 where the name says so", TENSOR, predict('{"instances": [{"b64": "/9j/4A=="}]}', "picture"), 200, {"predictions": [{"b64": "/9j/4A=="}]}, differences=differs(NO_BYTES_OUT, Reply(500, NOT_UTF_8), OURS)),
    _row("text comes back in base64 where the name says so", TENSOR, predict('{"instances": [{"b64": "YQ=="}]}', "picture"), 200, {"predictions": [{"b64": "YQ=="}]}),
    _row("text beyond ASCII", TENSOR, predict('{"instances": ["\\u00e9\\ud83d\\ude00"]}', "text"), 200, {"predictions": ["é😀"]}),
    _row("small integers wrap", TENSOR, predict('{"instances": [300]}', "tiny"), 200, {"predictions": [44]}),
)  # fmt: skip

_STATUS = Has({"model_version_status": [{"version": "1", "state": "AVAILABLE", "status": {"error_code": "OK", "error_message": ""}}]})  # fmt: skip

PATHS_AND_METHODS = (
    _row("status", "tensorflow/serving#1649", Http("GET", "/v1/models/double"), 200, _STATUS),
    _row("status of a version", PATHS, Http("GET", "/v1/models/double/versions/1"), 200, _STATUS),
    _row("status of an unknown model", "tensorflow/serving#1419", Http("GET", "/v1/models/nope"), 404, "Could not find any versions of model nope"),
    _row("status without a name", PATHS, Http("GET", "/v1/models"), 400, "Missing model name in request."),
    _row("metadata", "tensorflow/serving#1208", Http("GET", "/v1/models/double/metadata"), 200, Like('.*"signature_def".*"serving_default".*')),
    _row("a verb asked for with GET", "bendangnuksung/mrcnn_serving_ready#28", Http("GET", "/v1/models/double:predict"), 400, "Malformed request: GET /v1/models/double:predict"),
    _row("a status asked for with POST", "lyhue1991/eat_tensorflow2_in_30_days#46", Http("POST", "/v1/models/double", b"{}"), 400, "Malformed request: POST /v1/models/double"),
    _row("a put", PATHS, Http("PUT", "/v1/models/double:predict", GOOD.encode()), 400, "Malformed request: PUT /v1/models/double:predict"),
    _row("a delete", PATHS, Http("DELETE", "/v1/models/double"), 400, "Malformed request: DELETE /v1/models/double"),
    _row("an unknown model", "tensorflow/serving#750", predict(GOOD, "inception"), 404, "Servable not found for request: Latest(inception)"),
    _row("a model that is called otherwise", "kubeflow/trainer#552", predict(GOOD, "mnist"), 404, "Servable not found for request: Latest(mnist)"),
    _row("a version that is not served", "amiyapatanaik/tensorflow-serving-docker-image#6", predict(GOOD, "double/versions/2"), 404, "Servable not found for request: Specific(double, 2)"),
    _row("a label where a version belongs", "tensorflow/serving#1555", predict(GOOD, "double/versions/canary"), 400, "Malformed request: POST /v1/models/double/versions/canary:predict", differences=by_edge(_OWN_WORDS, Reply(400, Like("The model version 'canary' is not .*")))),
    _row("a label that there is not", "tensorflow/serving#1413", predict(GOOD, "double/labels/canary"), 400, "Unrecognized servable version label: canary"),
    _row("a version of more than 64 bits", PATHS, predict(GOOD, "double/versions/9223372036854775808"), 400, "Failed to convert version: 9223372036854775808 to numeric.", differences=by_edge(_OWN_WORDS, Reply(400, Like("The model version '9223372036854775808' is not .*")))),
    _row("a version with zeros in front", PATHS, predict(GOOD, "double/versions/0001"), 200, ANSWER),
    _row("capital letters", PATHS, Http("POST", "/V1/MODELS/double/Versions/1:predict", GOOD.encode()), 200, ANSWER),
    _row("a verb in capital letters", PATHS, Http("POST", "/v1/models/double:PREDICT", GOOD.encode()), 400, "Malformed request: POST /v1/models/double:PREDICT"),
    _row("a name that is escaped", PATHS, predict(GOOD, "d%6Fuble"), 200, ANSWER),
    _row("a query", PATHS, Http("POST", "/v1/models/double:predict?trace=1", GOOD.encode()), 400, "Malformed request: POST /v1/models/double:predict?trace=1"),
    _row("a query of a status", PATHS, Http("GET", "/v1/models/double?trace=1"), 404, "Could not find any versions of model double?trace=1"),
    _row("a query of metadata", PATHS, Http("GET", "/v1/models/double/metadata?trace=1"), 400, "Malformed request: GET /v1/models/double/metadata?trace=1"),
    _row("something else below v1", PATHS, Http("GET", "/v1/nothing"), 400, "Malformed request: GET /v1/nothing"),
    _row("two slashes", "envoyproxy/envoy#7611", Http("POST", "/v1//models/double:predict", GOOD.encode()), 400, "Malformed request: POST /v1//models/double:predict"),
    _row("a slash at the end", PATHS, Http("POST", "/v1/models/double:predict/", GOOD.encode()), 400, "Malformed request: POST /v1/models/double:predict/", differences=by_edge(_OWN_WORDS, Reply(400, Like("Malformed request: .*")))),
    _row("classify, with a model that only predicts", "tensorflow/serving#994", Http("POST", "/v1/models/double:classify", b'{"examples": [{"x": 1}]}'), 400, Like("Expected classification signature method_name to be tensorflow/serving/classify. Was: tensorflow/serving/predict")),
    _row("classify, without examples", "tensorflow/serving#1140", Http("POST", "/v1/models/double:classify", b"{}"), 400, "JSON Value: {} When method is classify, key 'examples' is expected and was not found"),
    _row("a web page asks whether it may call", "tensorflow/serving#1817", Http("OPTIONS", "/v1/models/double:predict", headers={"Origin": "https://example.org", "Access-Control-Request-Method": "POST"}), 200, b""),
    _row("no web page asks", SERVER, Http("OPTIONS", "/v1/models/double:predict"), 400, b""),
    Row("a page of another origin gets no leave by default", SERVER, predict(GOOD, Origin="https://example.org"), Reply(200, ANSWER, {"access-control-allow-origin": None}), OURS),
    Row("replies are JSON, refusals too", SERVER, predict("{"), Reply(400, None, JSON), OURS),
)  # fmt: skip

_SAID = "The embedded server says what is wrong with the body, where TF Serving goes on with an empty one."
CODINGS = (
    _row("a packed body", "tensorflow/serving#1091", predict(gzip.compress(GOOD.encode()), **{"Content-Encoding": "gzip"}), 200, ANSWER),
    _row("a packed body of which nothing is said", NET, predict(gzip.compress(GOOD.encode(), mtime=0)), 400, _json("Invalid value.", 0)),
    _row("a body packed by a coding that is not known", NET, predict(zlib.compress(GOOD.encode()), **{"Content-Encoding": "deflate"}), 400, _json("Invalid value.", 0)),
    _row("a coding that is not known, and a plain body", NET, predict(GOOD, **{"Content-Encoding": "br"}), 200, ANSWER),
    _row("a body that is not packed as it says", NET, predict(GOOD, **{"Content-Encoding": "gzip"}), 400, "JSON Parse error: The document is empty", differences=differs(_SAID, Reply(400, "the request's body is not gzip data as its Content-Encoding says"), OURS)),
    Row("a client that would take a packed reply", NET, predict(GOOD, **{"Accept-Encoding": "gzip, deflate, br"}), Reply(200, ANSWER, {"content-encoding": None}), OURS),
)  # fmt: skip

ROWS = BODIES + VALUES + PATHS_AND_METHODS + CODINGS
