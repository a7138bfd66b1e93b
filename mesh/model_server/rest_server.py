"""Both REST APIs on one port: HTTP/1.1 by aiohttp, the path decides which API answers."""

import gzip
import logging
import zlib
from collections.abc import Awaitable, Callable

from aiohttp import web

from mesh.model_server import v2_json
from mesh.model_server.rest_call import RestAnswer, RestCall

log = logging.getLogger(__name__)

Api = Callable[[RestCall], Awaitable[RestAnswer]]

_ENCODINGS = ("", "identity", "gzip", "deflate")


def application(tf_serving: Api, v2: Api, max_body_bytes: int) -> web.Application:
    """The web application: /v1 is TF Serving's, everything else Triton's."""

    async def handle(request: web.Request) -> web.StreamResponse:
        path = request.raw_path.partition("?")[0]
        if request.headers.get("Content-Encoding", "").strip().lower() not in _ENCODINGS:
            refusal = RestAnswer(501, v2_json.compact({"error": "Unsupported compression type"}), "text/plain")
            return _response(request, refusal)
        try:
            body = await request.read()
        except web.HTTPRequestEntityTooLarge:
            text = f"the request's body is larger than {max_body_bytes} bytes"
            return _response(request, RestAnswer(413, v2_json.compact({"error": text})))
        except web.RequestPayloadError:
            text = "the request's body is cut short or is not compressed as its headers say"
            return _response(request, RestAnswer(400, v2_json.compact({"error": text})))
        api = tf_serving if path.startswith("/v1/") else v2
        try:
            answer = await api(RestCall(request.method, path, request.headers, body))
        except Exception:
            log.exception("a call failed")
            answer = RestAnswer(500, v2_json.compact({"error": "internal error of the model server"}))
        return _response(request, answer)

    app = web.Application(client_max_size=max_body_bytes)
    app.router.add_route("*", "/{path:.*}", handle)
    return app


def _response(request: web.Request, answer: RestAnswer) -> web.Response:
    response = web.Response(status=answer.status, body=answer.body, headers=answer.headers)
    response.headers["Content-Type"] = answer.content_type
    if answer.compressible:
        accepted = request.headers.get("Accept-Encoding", "")
        if "gzip" in accepted:
            response.body = gzip.compress(answer.body, 6, mtime=0)
            response.headers["Content-Encoding"] = "gzip"
        elif "deflate" in accepted:
            response.body = zlib.compress(answer.body)
            response.headers["Content-Encoding"] = "deflate"
    return response
