"""POST /explain on the admin port: which way a call would go, and why. Nothing is called, and nothing counted."""

import asyncio
import json
from collections.abc import Callable

from aiohttp import web

from ext_proc.admin.explanation import CallToExplain, Explanation, read_call
from ext_proc.admin.http_port import from_a_page
from ext_proc.errors import TbmsError

MAX_CALL = 64 * 1024
"""Bytes of a call that is to be explained, as JSON."""
_SECONDS = 5.0  # for it to arrive


class ExplainApi:
    """The route. `explain` is the role's, and raises TbmsError for a call of which too little is said."""

    def __init__(self, explain: Callable[[CallToExplain], Explanation]) -> None:
        self._explain = explain

    def routes(self) -> list[web.RouteDef]:
        """For the admin port."""
        return [web.post("/explain", self._post)]

    async def _post(self, request: web.Request) -> web.Response:
        if from_a_page(request):
            return _refused(403, "Web pages may not ask here.")
        body = bytearray()
        try:
            async with asyncio.timeout(_SECONDS):
                async for chunk in request.content.iter_any():
                    body += chunk
                    if len(body) > MAX_CALL:
                        return _refused(413, f"A call to be explained has at most {MAX_CALL} bytes.")
        except TimeoutError:
            return _refused(408, "The call to be explained did not arrive in time.")
        try:
            document = json.loads(body)
        except (ValueError, RecursionError):
            return _refused(400, "A call to be explained is a JSON object.")
        try:
            return web.json_response(self._explain(read_call(document)))
        except TbmsError as error:
            return _refused(400, str(error))


def _refused(status: int, error: str) -> web.Response:
    return web.json_response({"error": error}, status=status)
