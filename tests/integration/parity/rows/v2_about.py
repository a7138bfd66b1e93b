"""Health, readiness and metadata of V2 over REST, its methods, and content codings."""

import gzip

from tests.integration.parity.row import Has, Http, Like, Reply, Row
from tests.integration.parity.rows.v2_words import (
    PLAIN,
    REPLY,
    SOURCE,
    SPEC,
)
from tests.integration.parity.rows.words import INFER, X, as_json

_ABOUT = (
    Row("alive", "triton-inference-server/server#1948", Http("GET", "/v2/health/live"), Reply(200, b"", PLAIN)),
    Row("ready", "triton-inference-server/server#7014", Http("GET", "/v2/health/ready"), Reply(200, b"", PLAIN)),
    Row(
        "a model's readiness has no body",
        "kserve/kserve#3820",
        Http("GET", "/v2/models/double/ready"),
        Reply(200, b"", PLAIN),
    ),
    Row(
        "a version's readiness",
        "kserve/kserve#1760",
        Http("GET", "/v2/models/double/versions/1/ready"),
        Reply(200, b"", PLAIN),
    ),
    Row(
        "a version that is not ready",
        "clearml/clearml-serving#22",
        Http("GET", "/v2/models/double/versions/9/ready"),
        Reply(400),
    ),
    Row(
        "the API before this one",
        "triton-inference-server/server#2127",
        Http("GET", "/api/status/resnet50_netdef"),
        Reply(404, "Not Found", PLAIN),
    ),
    Row(
        "the list of models, which there is not",
        "kserve/kserve#1283",
        Http("GET", "/v2/models"),
        Reply(404, "Not Found", PLAIN),
    ),
    Row(
        "the server's own metadata",
        "kserve/kserve#1283",
        Http("GET", "/v2"),
        Reply(200, Like('.*"extensions":.*'), {"content-type": "application/json"}),
    ),
    Row(
        "metadata of a model",
        SPEC,
        Http("GET", "/v2/models/double"),
        Reply(200, Has({"name": "double", "versions": ["1"]})),
    ),
    Row(
        "metadata of an unknown model",
        "triton-inference-server/server#2254",
        Http("GET", "/v2/models/resnet50_netdef"),
        Reply(404, "Request for unknown model: 'resnet50_netdef' is not found"),
    ),
    Row("two slashes", "envoyproxy/envoy#7611", Http("GET", "/v2//health/live"), Reply(404, "Not Found")),
    Row(
        "a slash that is escaped", "envoyproxy/gateway#7084", Http("GET", "/v2%2Fhealth/live"), Reply(404, "Not Found")
    ),
    Row("dots in a path", "envoyproxy/envoy#6589", Http("GET", "/v2/x/../health/live"), Reply(404, "Not Found")),
    Row("an inference with GET", SOURCE, Http("GET", INFER), Reply(405, "Method Not Allowed", PLAIN)),
    Row("a head where a body would be", "envoyproxy/envoy#3775", Http("HEAD", "/v2/health/live"), Reply(405, b"")),
)

_CODINGS = (
    Row(
        "a packed body",
        "kserve/modelmesh-serving#111",
        Http("POST", INFER, gzip.compress(as_json({"inputs": [X]})), {"Content-Encoding": "gzip"}),
        Reply(200, REPLY),
    ),
    Row(
        "a packed reply says so",
        "triton-inference-server/server#5185",
        Http("POST", INFER, as_json({"inputs": [X]}), {"Accept-Encoding": "gzip"}),
        Reply(200, REPLY, {"content-encoding": "gzip"}),
    ),
    Row(
        "a coding that is not known",
        "triton-inference-server/server#2736",
        Http("POST", INFER, as_json({"inputs": [X]}), {"Content-Encoding": "br"}),
        Reply(501, "Unsupported compression type", {"accept-encoding": "gzip, deflate"}),
    ),
    Row(
        "a packed reply to a refusal",
        SOURCE,
        Http("POST", INFER, b"{", {"Accept-Encoding": "gzip"}),
        Reply(500, Like("failed to parse .*"), {"content-encoding": None}),
    ),
)


ROWS = _ABOUT + _CODINGS
