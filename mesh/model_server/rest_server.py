"""Both REST APIs on one port: HTTP/1.1 by aiohttp, the path decides which API answers."""

import gzip
import logging
import re
import zlib
from collections.abc import Awaitable, Callable
from typing import Protocol

from aiohttp import web

from mesh.model_server.errors import ServingError, StatusCode, invalid
from mesh.model_server.rest_call import RestAnswer, RestCall
from mesh.model_server.v2.triton_json import compact

logger = logging.getLogger(__name__)

_WEIGHT = re.compile(r"0(\.[0-9]{0,3})?|1(\.0{0,3})?")

Api = Callable[[RestCall], Awaitable[RestAnswer]]


class Offload(Protocol):
    """`Runner.offload`."""

    async def __call__(self, size: int, work: Callable[[], bytes]) -> bytes:
        """What `work` on `size` bytes gives, done where it holds nobody up."""


def application(tf_serving: Api, v2: Api, max_body_bytes: int, offload: Offload) -> web.Application:
    """The web application: /v1 is TF Serving's, everything else Triton's. `offload` keeps long work off the loop."""

    async def handle(request: web.Request) -> web.StreamResponse:
        path = request.raw_path.partition("?")[0]
        try:
            body = await _plain_body(request)
        except ServingError as error:
            body = compact({"error": error.message})
            if error.code is StatusCode.UNIMPLEMENTED:
                told = {"Accept-Encoding": "gzip, deflate"}
                return await _response(request, RestAnswer(501, body, "text/plain", told), offload)
            return await _response(request, RestAnswer(400, body), offload)
        except web.HTTPRequestEntityTooLarge:
            text = f"the request's body is larger than {max_body_bytes} bytes"
            return await _response(request, RestAnswer(413, compact({"error": text})), offload)
        api = tf_serving if path[:4].lower() == "/v1/" else v2
        try:
            answer = await api(RestCall(request.method, path, request.headers, body))
        except Exception:
            logger.exception("a call failed")
            answer = RestAnswer(500, compact({"error": "internal error of the model server"}))
        return await _response(request, answer, offload)

    async def _plain_body(request: web.Request) -> bytes:
        encoding, packed = request.headers.get("Content-Encoding", ""), await request.read()
        if not encoding:
            return packed
        # A few packed bytes may be many plain ones.
        return await offload(max_body_bytes, lambda: _decompress(encoding, packed, max_body_bytes))

    async def anonymous(_: web.BaseRequest, response: web.StreamResponse) -> None:
        response.headers.pop("Server", None)

    app = web.Application(client_max_size=max_body_bytes)
    app.on_response_prepare.append(anonymous)
    app.router.add_route("*", "/{path:.*}", handle)
    return app


def _decompress(encoding: str, body: bytes, max_bytes: int) -> bytes:
    """The body with its content encoding undone, never more than `max_bytes` of it. Raises ServingError."""
    name = encoding.strip().lower().removeprefix("x-")
    if name in ("", "identity"):
        return body
    if name not in ("gzip", "deflate"):
        raise ServingError(StatusCode.UNIMPLEMENTED, "Unsupported compression type")
    inflate = zlib.decompressobj(wbits=zlib.MAX_WBITS | 32)  # either header
    try:
        plain = inflate.decompress(body, max_bytes)
    except zlib.error as error:
        raise invalid(f"the request's body is not {name} data as its Content-Encoding says") from error
    if inflate.unconsumed_tail:
        raise web.HTTPRequestEntityTooLarge(max_bytes, len(body))
    if not inflate.eof:
        raise invalid(f"the request's body ends in the middle of its {name} data")
    return plain


async def _response(request: web.Request, answer: RestAnswer, offload: Offload) -> web.Response:
    response = web.Response(status=answer.status, body=answer.body, headers=answer.headers)
    response.headers["Content-Type"] = answer.content_type
    if answer.compressible:
        coding = preferred_coding(",".join(request.headers.getall("Accept-Encoding", ())))
        if coding == "gzip":
            response.body = await offload(len(answer.body), lambda: gzip.compress(answer.body, 6, mtime=0))
        elif coding == "deflate":
            response.body = await offload(len(answer.body), lambda: zlib.compress(answer.body))
        if coding is not None:
            response.headers["Content-Encoding"] = coding
    return response


def preferred_coding(accept: str) -> str | None:
    """gzip or deflate, where the field's value asks for one of them more than for none; RFC 9110, section 12.5.3.

    A weight that is no number from 0 to 1 counts as 0: what is not understood is not sent.
    """
    weights: dict[str, float] = {}
    for member in accept.lower().split(","):
        coding, _, parameters = member.partition(";")
        name, _, value = parameters.partition("=")
        weight = _WEIGHT.fullmatch(value.strip()) if parameters else None
        weights[coding.strip()] = float(weight[0]) if weight and name.strip() == "q" else 0.0 if parameters else 1.0
    others = weights.get("*", 0.0)
    asked = {coding: weights.get(coding, weights.get(f"x-{coding}", others)) for coding in ("gzip", "deflate")}
    best = max(asked, key=asked.__getitem__)
    return best if asked[best] > 0 and asked[best] >= weights.get("identity", 0.0) else None
