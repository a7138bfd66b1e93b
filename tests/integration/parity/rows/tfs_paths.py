"""TF Serving's REST paths and methods."""

from tests.integration.parity.row import OURS, Difference, Has, Http, Like, Place, Reply, Row
from tests.integration.parity.rows.tfs_words import ANSWER, GOOD, PATHS, SERVER, tfs
from tests.integration.parity.rows.words import predict


def worded(reply: Reply) -> dict[Place, Difference]:
    """What the edge says by itself."""
    return {Place.OURS_BY_EDGE: Difference(_OWN_WORDS, reply)}


_OWN_WORDS = "The edge names the call by its path, and so words what is amiss with it itself; the status is the same."

_STATUS = Has(
    {
        "model_version_status": [
            {"version": "1", "state": "AVAILABLE", "status": {"error_code": "OK", "error_message": ""}}
        ]
    }
)


ROWS = (
    tfs("status", "tensorflow/serving#1649", Http("GET", "/v1/models/double"), 200, _STATUS),
    tfs("status of a version", PATHS, Http("GET", "/v1/models/double/versions/1"), 200, _STATUS),
    tfs(
        "status of an unknown model",
        "tensorflow/serving#1419",
        Http("GET", "/v1/models/nope"),
        404,
        "Could not find any versions of model nope",
    ),
    tfs("status without a name", PATHS, Http("GET", "/v1/models"), 400, "Missing model name in request."),
    tfs(
        "metadata",
        "tensorflow/serving#1208",
        Http("GET", "/v1/models/double/metadata"),
        200,
        Like('.*"signature_def".*"serving_default".*'),
    ),
    tfs(
        "a verb asked for with GET",
        "bendangnuksung/mrcnn_serving_ready#28",
        Http("GET", "/v1/models/double:predict"),
        400,
        "Malformed request: GET /v1/models/double:predict",
    ),
    tfs(
        "a status asked for with POST",
        "lyhue1991/eat_tensorflow2_in_30_days#46",
        Http("POST", "/v1/models/double", b"{}"),
        400,
        "Malformed request: POST /v1/models/double",
    ),
    tfs(
        "a put",
        PATHS,
        Http("PUT", "/v1/models/double:predict", GOOD.encode()),
        400,
        "Malformed request: PUT /v1/models/double:predict",
    ),
    tfs("a delete", PATHS, Http("DELETE", "/v1/models/double"), 400, "Malformed request: DELETE /v1/models/double"),
    tfs(
        "an unknown model",
        "tensorflow/serving#750",
        predict(GOOD, "inception"),
        404,
        "Servable not found for request: Latest(inception)",
    ),
    tfs(
        "a model that is called otherwise",
        "kubeflow/trainer#552",
        predict(GOOD, "mnist"),
        404,
        "Servable not found for request: Latest(mnist)",
    ),
    tfs(
        "a version that is not served",
        "amiyapatanaik/tensorflow-serving-docker-image#6",
        predict(GOOD, "double/versions/2"),
        404,
        "Servable not found for request: Specific(double, 2)",
    ),
    tfs(
        "a label where a version belongs",
        "tensorflow/serving#1555",
        predict(GOOD, "double/versions/canary"),
        400,
        "Malformed request: POST /v1/models/double/versions/canary:predict",
        differences=worded(Reply(400, Like("The model version 'canary' is not .*"))),
    ),
    tfs(
        "a label that there is not",
        "tensorflow/serving#1413",
        predict(GOOD, "double/labels/canary"),
        400,
        "Unrecognized servable version label: canary",
    ),
    tfs(
        "a version of more than 64 bits",
        PATHS,
        predict(GOOD, "double/versions/9223372036854775808"),
        400,
        "Failed to convert version: 9223372036854775808 to numeric.",
        differences=worded(Reply(400, Like("The model version '9223372036854775808' is not .*"))),
    ),
    tfs("a version with zeros in front", PATHS, predict(GOOD, "double/versions/0001"), 200, ANSWER),
    tfs("capital letters", PATHS, Http("POST", "/V1/MODELS/double/Versions/1:predict", GOOD.encode()), 200, ANSWER),
    tfs(
        "a verb in capital letters",
        PATHS,
        Http("POST", "/v1/models/double:PREDICT", GOOD.encode()),
        400,
        "Malformed request: POST /v1/models/double:PREDICT",
    ),
    tfs("a name that is escaped", PATHS, predict(GOOD, "d%6Fuble"), 200, ANSWER),
    tfs(
        "a query",
        PATHS,
        Http("POST", "/v1/models/double:predict?trace=1", GOOD.encode()),
        400,
        "Malformed request: POST /v1/models/double:predict?trace=1",
    ),
    tfs(
        "a query of a status",
        PATHS,
        Http("GET", "/v1/models/double?trace=1"),
        404,
        "Could not find any versions of model double?trace=1",
    ),
    tfs(
        "a query of metadata",
        PATHS,
        Http("GET", "/v1/models/double/metadata?trace=1"),
        400,
        "Malformed request: GET /v1/models/double/metadata?trace=1",
    ),
    tfs("something else below v1", PATHS, Http("GET", "/v1/nothing"), 400, "Malformed request: GET /v1/nothing"),
    tfs(
        "two slashes",
        "envoyproxy/envoy#7611",
        Http("POST", "/v1//models/double:predict", GOOD.encode()),
        400,
        "Malformed request: POST /v1//models/double:predict",
    ),
    tfs(
        "a slash at the end",
        PATHS,
        Http("POST", "/v1/models/double:predict/", GOOD.encode()),
        400,
        "Malformed request: POST /v1/models/double:predict/",
        differences=worded(Reply(400, Like("Malformed request: .*"))),
    ),
    tfs(
        "classify, with a model that only predicts",
        "tensorflow/serving#994",
        Http("POST", "/v1/models/double:classify", b'{"examples": [{"x": 1}]}'),
        400,
        Like("Expected classification signature method_name to be .*/classify. Was: tensorflow/serving/predict"),
    ),
    tfs(
        "classify, without examples",
        "tensorflow/serving#1140",
        Http("POST", "/v1/models/double:classify", b"{}"),
        400,
        "JSON Value: {} When method is classify, key 'examples' is expected and was not found",
    ),
    tfs(
        "a web page asks whether it may call",
        "tensorflow/serving#1817",
        Http(
            "OPTIONS",
            "/v1/models/double:predict",
            headers={"Origin": "https://example.org", "Access-Control-Request-Method": "POST"},
        ),
        200,
        b"",
    ),
    tfs("no web page asks", SERVER, Http("OPTIONS", "/v1/models/double:predict"), 400, b""),
    Row(
        "a page of another origin gets no leave by default",
        SERVER,
        predict(GOOD, Origin="https://example.org"),
        Reply(200, ANSWER, {"access-control-allow-origin": None}),
        OURS,
    ),
    Row(
        "replies are JSON, refusals too",
        SERVER,
        predict("{"),
        Reply(400, None, {"content-type": "application/json"}),
        OURS,
    ),
)
