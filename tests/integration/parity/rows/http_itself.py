"""What HTTP itself allows, whichever API is called through it."""

from tests.integration.parity.row import CLOSED, OURS, Has, Http, Like, Pairs, Place, Reply, Row, differs
from tests.integration.parity.rows.words import INFER, PREDICT, X, Y, as_json

RFC = "https://www.rfc-editor.org/rfc/rfc9112"
LIBEVENT = "libevent/libevent: http.c"
EVHTP = "Yellow-Camper/libevhtp: parser.c"
ROW, COLUMN = b'{"instances": [[1, 2]]}', as_json({"inputs": [X]})
PREDICTED, INFERRED = Reply(200, {"predictions": [[2, 4]]}), Reply(200, Has({"outputs": [Y]}))
HTTP_1 = ("1.0", "1.1")
LONG = (("X-Long", "v" * 9000),)
ODD = (("Expect", "something"),)
SHORT_NAMES = "No model has a name of more than 255 bytes: it is a folder's."


def _both(
    about: str, source: str, headers: Pairs = (), *, chunked: bool = False, absolute: bool = False, **more: object
) -> tuple[Row, Row]:
    """The same through both APIs."""
    start = "http://models.test" if absolute else ""
    return (
        Row(
            f"{about}, TF Serving",
            source,
            Http("POST", start + PREDICT, ROW, headers, chunked),
            PREDICTED,
            OURS,
            **more,
        ),  # type: ignore[arg-type]
        Row(f"{about}, V2", source, Http("POST", start + INFER, COLUMN, headers, chunked), INFERRED, **more),  # type: ignore[arg-type]
    )


ROWS = (
    *_both("nothing said of the body's type", "triton-inference-server/server#2643"),
    *_both("in chunks", "envoyproxy/envoy#36080", chunked=True),
    *_both("a header with an underscore", "envoyproxy/envoy#24466", (("X_Custom_Id", "1"),)),
    *_both("a header beyond ASCII", RFC, (("X-Name", "Zo\xeb"),)),
    *_both("an empty header", RFC, (("X-Empty", ""),)),
    *_both("one header twice", RFC, (("X-Id", "1"), ("X-Id", "2"))),
    *_both("150 headers", LIBEVENT, tuple((f"X-H-{number}", "v") for number in range(150))),
    *_both("a cookie of 8,000 bytes", EVHTP, (("Cookie", "c=" + "v" * 7998),)),
    *_both("the whole URL instead of a path", RFC, absolute=True, versions=HTTP_1),
    Row("a header of 9,000 bytes, TF Serving", LIBEVENT, Http("POST", PREDICT, ROW, LONG), PREDICTED, OURS),
    Row(
        "a path of 9,000 bytes, TF Serving",
        LIBEVENT,
        Http("GET", f"/v1/models/{'m' * 9000}"),
        Reply(404, Like("Could not find any versions of model m+")),
        OURS,
        differences=differs(SHORT_NAMES, Reply(400, Like("The model name 'm+.*")), frozenset({Place.OURS_BY_EDGE})),
    ),
    Row(
        "a header of 9,000 bytes, V2",
        EVHTP,
        Http("POST", INFER, COLUMN, LONG),
        Reply(CLOSED),
        differences={
            **differs("Not a limit that anyone wants copied.", INFERRED, OURS),
            **differs(
                "Triton hangs up without a word, and the edge says so.",
                Reply(503, Like("upstream connect error.*")),
                frozenset({Place.TRITON_BY_EDGE}),
            ),
        },
    ),
    Row(
        "an expectation that nobody knows, TF Serving",
        LIBEVENT,
        Http("POST", PREDICT, ROW, ODD),
        Reply(417),
        OURS,
        versions=("1.1",),
    ),
    Row(
        "an expectation that nobody knows, V2",
        EVHTP,
        Http("POST", INFER, COLUMN, ODD),
        INFERRED,
        versions=("1.1",),
        differences=differs("RFC 9110, 10.1.1: refused, as TF Serving does.", Reply(417), OURS),
    ),
    *_both("a client that closes", RFC, (("Connection", "close"),)),
    *_both(
        "credentials that nobody asked for", "triton-inference-server/server#6970", (("Authorization", "Bearer abc"),)
    ),
    *_both("a client that asks before it sends", "curl/curl#4949", (("Expect", "100-continue"),), versions=("1.1",)),
    *_both(
        "an upgrade on offer", "SigNoz/charts#53", (("Connection", "Upgrade"), ("Upgrade", "h2c")), versions=("1.1",)
    ),
)
