"""Calls that people have asked about in public, and what must come back: data, no code.

The requests are made anew after what a report tells, for the models of the parity tests: `double` takes x, FP32 of
[-1, 2], and gives y; `text` takes s, BYTES of [-1], and gives t. A reply is the status and, of its JSON, what is given.
"""

from dataclasses import dataclass
from typing import Any

DOUBLE, TEXT = "/v2/models/double/infer", "/v2/models/text/infer"
PREDICT, PREDICT_TEXT = "/v1/models/double:predict", "/v1/models/text:predict"
X = '{"name":"x","shape":[1,2],"datatype":"FP32","data":[1,2]}'


@dataclass(frozen=True)
class Report:
    source: str  # of the report, on github.com
    about: str
    path: str
    body: str
    status: int
    reply: dict[str, Any]

    @property
    def v2(self) -> bool:
        return self.path.startswith("/v2")


def refusal(text: str) -> dict[str, Any]:
    return {"error": text}


REPORTS = (
    Report(
        "triton-inference-server/server/issues/4405",
        "strings one to a row",
        TEXT,
        '{"id":"42","inputs":[{"name":"s","shape":[2],"datatype":"BYTES","data":[["a"],["b"]]}],"outputs":[{"name":"t"}]}',
        200,
        {"id": "42", "outputs": [{"name": "t", "datatype": "BYTES", "shape": [2], "data": ["a", "b"]}]},
    ),
    Report(
        "triton-inference-server/server/issues/6791",
        "two rows declared, one given",
        DOUBLE,
        '{"inputs":[{"name":"x","shape":[2,2],"datatype":"FP32","data":[1,2]}]}',
        500,
        refusal("Unable to parse 'data': Shape does not match true shape of 'data' field"),
    ),
    Report(
        "ELS-RD/transformer-deploy/issues/14",
        "an output that the model calls otherwise",
        DOUBLE,
        f'{{"inputs":[{X}],"outputs":[{{"name":"score"}}]}}',
        400,
        refusal("unexpected inference output 'score' for model 'double'"),
    ),
    Report(
        "ELS-RD/transformer-deploy/issues/14",
        "data behind the JSON, and no header that says where they begin",
        DOUBLE,
        '{"inputs":[]}....',
        500,
        refusal(
            "failed to parse the request JSON buffer: The document root must not be followed by other values. at 13"
        ),
    ),
    Report(
        "triton-inference-server/server/issues/4196",
        "a client that sends blanks for JSON",
        DOUBLE,
        " ",
        500,
        refusal("failed to parse the request JSON buffer: The document is empty. at 1"),
    ),
    Report(
        "triton-inference-server/server/issues/1649",
        "the datatype's name in a configuration, not in the protocol",
        TEXT,
        '{"inputs":[{"name":"s","shape":[1],"datatype":"STRING","data":["a"]}]}',
        400,
        refusal("invalid datatype for input s"),
    ),
    Report(
        "tensorflow/serving/issues/1296",
        "an input that the signature does not have",
        PREDICT,
        '{"instances": [{"example1": [1, 2]}]}',
        400,
        refusal(
            "Failed to process element: 0 key: example1 of 'instances' list. Error: INVALID_ARGUMENT: JSON object: "
            "does not have named input: example1"
        ),
    ),
    Report(
        "aws/sagemaker-tensorflow-serving-container/issues/73",
        "inputs at the top",
        PREDICT,
        '{"x": [[1, 2]]}',
        400,
        refusal("Missing 'inputs' or 'instances' key"),
    ),
    Report(
        "zzh8829/yolov3-tf2/issues/314",
        "one instance, and no list around it",
        PREDICT_TEXT,
        '{"instances": {"b64": "YQ=="}}',
        400,
        refusal(
            'JSON Value: {\n    "instances": {\n        "b64": "YQ=="\n    }\n} '
            "Expecting 'instances' to be an list/array"
        ),
    ),
    Report(
        "tensorflow/serving/pull/1140",
        "no instance at all",
        PREDICT,
        '{"instances": []}',
        400,
        refusal("JSON Value: {\n    \"instances\": []\n} No values in 'instances' array"),
    ),
    Report(
        "tensorflow/serving/pull/1140",
        "rows and columns at once",
        PREDICT,
        '{"instances": [], "inputs": []}',
        400,
        refusal(
            'JSON Value: {\n    "instances": [],\n    "inputs": []\n} Not formatted correctly expecting only one of '
            "'inputs' or 'instances' keys to exist "
        ),
    ),
)
