"""Commands of operators, on a node's admin port: POST /models/{model}/load, unload, pin and unpin, [?version=N].

Answered once the command is carried out, with `{"model": ..., "version": ...}`, or with `{"error": ..., "cause": ...}`.
A client that hangs up does not end the load it asked for.
"""

from collections.abc import Awaitable, Callable

from aiohttp import web

from ext_proc.admin.http_port import from_a_page
from ext_proc.node.refusals import refusal
from mesh.model_cache.books.names import check_version
from mesh.model_cache.errors import BadName, CacheError, ModelMissing, Refused
from mesh.model_cache.manager import Manager

Command = Callable[[str, int | None], Awaitable[int | None]]


class OperatorApi:
    """The commands as HTTP handlers over the cache's own (`mesh.model_cache.commands`)."""

    def __init__(self, manager: Manager) -> None:
        self._commands = manager.commands
        self._node_report = manager.node_report

    def routes(self) -> list[web.RouteDef]:
        """The routes, for the admin port only: whoever reaches them may load and unload everything."""
        commands = {"load": self._load, "unload": self._unload, "pin": self._pin, "unpin": self._unpin}
        return [web.post(f"/models/{{model}}/{name}", _handler(command)) for name, command in commands.items()]

    async def _load(self, model: str, version: int | None) -> int | None:
        return (await self._commands.load(model, version)).version

    async def _unload(self, model: str, version: int | None) -> int | None:
        if model not in self._node_report.residency().models:
            raise ModelMissing(f"Model {model!a} is not loaded on this node.")
        await self._commands.unload(model, version)
        return None

    async def _pin(self, model: str, version: int | None) -> int | None:
        _refuse_version(version, "pinned")
        await self._commands.pin(model)
        return None

    async def _unpin(self, model: str, version: int | None) -> int | None:
        _refuse_version(version, "unpinned")
        if not self._commands.is_pinned(model) and model not in self._node_report.residency().models:
            raise ModelMissing(f"Model {model!a} is neither pinned nor loaded on this node.")
        self._commands.unpin(model)
        return None


def _refuse_version(version: int | None, done: str) -> None:
    if version is not None:
        raise BadName(f"A model is {done} as a whole: name no version.")


def _handler(command: Command) -> Callable[[web.Request], Awaitable[web.Response]]:
    async def handle(request: web.Request) -> web.Response:
        if from_a_page(request):
            return web.json_response({"error": "Web pages may not give commands."}, status=403)
        model, text = request.match_info["model"], request.query.get("version")
        try:
            version = await command(model, None if text is None else check_version(text))
        except CacheError as error:
            status = 409 if isinstance(error, Refused) else refusal(error).reason.http
            return web.json_response({"error": error.message, "cause": error.cause}, status=status)
        return web.json_response({"model": model, "version": version})

    return handle
