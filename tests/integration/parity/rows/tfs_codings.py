"""Content codings of TF Serving's REST API: it unpacks gzip, looks at no other, and packs nothing."""

import gzip
import zlib

from tests.integration.parity.row import OURS, Reply, Row, differs
from tests.integration.parity.rows.tfs_words import (
    ANSWER,
    GOOD,
    NET,
    broken,
    tfs,
)
from tests.integration.parity.rows.words import predict

_SAID = "The embedded server says what is wrong with the body, where TF Serving goes on with an empty one."

ROWS = (
    tfs(
        "a packed body",
        "tensorflow/serving#1091",
        predict(gzip.compress(GOOD.encode()), **{"Content-Encoding": "gzip"}),
        200,
        ANSWER,
    ),
    tfs(
        "a packed body of which nothing is said",
        NET,
        predict(gzip.compress(GOOD.encode(), mtime=0)),
        400,
        broken("Invalid value.", 0),
    ),
    tfs(
        "a body packed by a coding that is not known",
        NET,
        predict(zlib.compress(GOOD.encode()), **{"Content-Encoding": "deflate"}),
        400,
        broken("Invalid value.", 0),
    ),
    tfs("a coding that is not known, and a plain body", NET, predict(GOOD, **{"Content-Encoding": "br"}), 200, ANSWER),
    tfs(
        "a body that is not packed as it says",
        NET,
        predict(GOOD, **{"Content-Encoding": "gzip"}),
        400,
        "JSON Parse error: The document is empty",
        differences=differs(
            _SAID, Reply(400, "the request's body is not gzip data as its Content-Encoding says"), OURS
        ),
    ),
    Row(
        "a client that would take a packed reply",
        NET,
        predict(GOOD, **{"Accept-Encoding": "gzip, deflate, br"}),
        Reply(200, ANSWER, {"content-encoding": None}),
        OURS,
    ),
)
