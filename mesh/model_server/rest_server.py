"""Both REST APIs on one port: HTTP/1.1 by aiohttp, the path decides which API answers."""

import logging
import re
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any, Protocol

from aiohttp import web

from mesh.model_server import content_coding
from mesh.model_server.rest_call import RestAnswer, RestCall
from mesh.model_server.v2.triton_json import compact

logger = logging.getLogger(__name__)

# TF Serving's HTTP server has no limit at all, Triton's none for the number. More than an Envoy in front lets through.
MAX_HEADERS = 2000
MAX_HEADER_BYTES = 512 * 1024
# RFC 9112, 3.2.2: a server takes the whole URL, too, in the place of a path.
_ABSOLUTE = re.compile(r"https?://[^/?#]*", re.IGNORECASE)

Api = Callable[[RestCall], Awaitable[RestAnswer]]


class Offload(Protocol):
    """`Runner.offload`."""

    async def __call__(self, size: int, work: Callable[[], bytes]) -> bytes:
        """What `work` on `size` bytes gives, done where it holds nobody up."""


def application(tf_serving: Api, v2: Api, max_body_bytes: int, offload: Offload) -> web.Application:
    """The web application: /v1 is TF Serving's, everything else Triton's. `offload` keeps long work off the loop."""

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
        return await _response(request, answer, offload)

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
        "max_headers": MAX_HEADERS,
        "max_field_size": MAX_HEADER_BYTES,
        "max_line_size": MAX_HEADER_BYTES,
    }
    # Bodies are unpacked by the APIs, within the limit of a body.
    return web.AppRunner(app, access_log=None, auto_decompress=False, shutdown_timeout=shutdown_seconds, **limits)


async def _response(request: web.Request, answer: RestAnswer, offload: Offload) -> web.Response:
    response = web.Response(status=answer.status, body=answer.body, headers=answer.headers)
    response.headers["Content-Type"] = answer.content_type
    if answer.compressible:
        coding = content_coding.preferred(",".join(request.headers.getall("Accept-Encoding", ())))
        if coding is not None:
            response.body = await offload(len(answer.body), partial(content_coding.packed, coding, answer.body))
            response.headers["Content-Encoding"] = coding
    return response
