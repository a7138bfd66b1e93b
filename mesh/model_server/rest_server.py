"""Both REST APIs on one port: HTTP/1.1 by aiohttp, the path decides which API answers."""

import logging
import re
from collections.abc import Awaitable, Callable
from typing import Any

from aiohttp import web

from mesh.model_server import content_coding
from mesh.model_server.rest_call import RestAnswer, RestCall
from mesh.model_server.v2.triton_json import compact

logger = logging.getLogger(__name__)

# TF Serving's HTTP server has no limit at all, Triton's none for the number. More than an Envoy in front lets through.
HEADERS = 2000
HEADER_BYTES = 512 * 1024
# RFC 9112, 3.2.2: a server takes the whole URL, too, in the place of a path.
_ABSOLUTE = re.compile(r"https?://[^/?#]*", re.IGNORECASE)

Api = Callable[[RestCall], Awaitable[RestAnswer]]


def application(tf_serving: Api, v2: Api, max_body_bytes: int) -> web.Application:
    """The web application: /v1 is TF Serving's, everything else Triton's."""

    async def handle(request: web.Request) -> web.StreamResponse:
        target = _ABSOLUTE.sub("", request.raw_path, count=1) or "/"
        api = tf_serving if target[:4].lower() == "/v1/" else v2
        try:
            body = await request.read()
            answer = await api(RestCall(request.method, target, request.headers, body, max_body_bytes))
        except (web.HTTPRequestEntityTooLarge, content_coding.TooLarge):
            text = f"the request's body is larger than {max_body_bytes} bytes"
            answer = RestAnswer(413, compact({"error": text}))
        except Exception:
            logger.exception("a call failed")
            answer = RestAnswer(500, compact({"error": "internal error of the model server"}))
        return _response(request, answer)

    async def anonymous(_: web.BaseRequest, response: web.StreamResponse) -> None:
        response.headers.pop("Server", None)
        if response.headers.get("Content-Type") == "":
            del response.headers["Content-Type"]

    app = web.Application(client_max_size=max_body_bytes)
    app.on_response_prepare.append(anonymous)
    app.router.add_route("*", "/{path:.*}", handle)
    return app


def runner(app: web.Application, shutdown_seconds: float) -> web.AppRunner:
    """What runs the application, within the limits above."""
    limits: dict[str, Any] = {
        "max_headers": HEADERS,
        "max_field_size": HEADER_BYTES,
        "max_line_size": HEADER_BYTES,
    }
    # Bodies are unpacked by the APIs, within the limit of a body.
    return web.AppRunner(app, access_log=None, auto_decompress=False, shutdown_timeout=shutdown_seconds, **limits)


def _response(request: web.Request, answer: RestAnswer) -> web.Response:
    response = web.Response(status=answer.status, body=answer.body, headers=answer.headers)
    response.headers["Content-Type"] = answer.content_type
    if answer.compressible:
        coding = content_coding.preferred(",".join(request.headers.getall("Accept-Encoding", ())))
        if coding is not None:
            response.body = content_coding.packed(coding, answer.body)
            response.headers["Content-Encoding"] = coding
    return response
