"""A TF Serving that does only what a loader sees of it, in its own way: see each comment."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import grpc
import grpc.aio

from mesh.protos import tfs_pb2 as pb

Status = pb.ModelVersionStatus


class TfServingPeer:
    """`loads` says how each load goes: seconds, and the error it ends with; one in `holds` ends no sooner than that."""

    def __init__(self) -> None:
        self.states: dict[tuple[str, int], Any] = {}
        self.loads: dict[str, tuple[float, str]] = {}
        self.holds: dict[str, asyncio.Event] = {}
        self.lists: list[dict[str, list[int]]] = []
        self.labels: dict[str, dict[str, int]] = {}
        self.asked = Counter[str]()
        """How often the status of each model was asked for."""
        self.refusal = ""
        self._config = asyncio.Lock()

    def set(self, name: str, version: int, state: int, error: str = "") -> None:
        code = pb.INVALID_ARGUMENT if error else pb.OK
        self.states[name, version] = Status(
            version=version, state=state, status=pb.StatusProto(error_code=code, error_message=error)
        )

    async def status(self, request: pb.GetModelStatusRequest, context: Any) -> pb.GetModelStatusResponse:
        self.asked[request.model_spec.name] += 1
        found = [state for (name, _), state in self.states.items() if name == request.model_spec.name]
        if not found:
            await context.abort(grpc.StatusCode.NOT_FOUND, f"Could not find any versions of {request.model_spec.name}")
        return pb.GetModelStatusResponse(model_version_status=found)

    async def reload(self, request: pb.ReloadConfigRequest, context: Any) -> pb.ReloadConfigResponse:
        # One mutex over the whole of a reload, the loads that it waits for included.
        async with self._config:
            configs = request.config.model_config_list.config
            if self.refusal:
                await context.abort(grpc.StatusCode.INVALID_ARGUMENT, self.refusal)
            listed = {each.name: list(each.model_version_policy.specific.versions) for each in configs}
            for each in configs:
                for version in each.version_labels.values():
                    state = self.states.get((each.name, version))
                    if state is None or state.state != Status.AVAILABLE:
                        await context.abort(
                            grpc.StatusCode.FAILED_PRECONDITION, "not currently available for inference"
                        )
            self.labels = {each.name: dict(each.version_labels) for each in configs}
            before = set().union(*self.lists[-1:]) if self.lists else set()
            self.lists.append(listed)
            for name, version in self.states:
                if version not in listed.get(name, ()) and self.states[name, version].state == Status.AVAILABLE:
                    self.set(name, version, Status.END)
            loads = [
                (name, asyncio.create_task(self._load(name, version)))
                for name, versions in listed.items()
                for version in versions
                if (name, version) not in self.states or self.states[name, version].state != Status.AVAILABLE
            ]
            # Waited for are new names only: another version of a known model loads after the answer.
            awaited = [load for name, load in loads if name not in before]
            self._later = [load for name, load in loads if name in before]
            errors = [error for error in await asyncio.gather(*awaited) if error]
            if errors:
                await context.abort(grpc.StatusCode.UNKNOWN, f"{len(errors)} servable(s) did not become available")
        return pb.ReloadConfigResponse(status=pb.StatusProto())

    async def _load(self, name: str, version: int) -> str:
        seconds, error = self.loads.get(name, (0.0, ""))
        await asyncio.sleep(0.05)  # until then the end of an earlier load is still shown
        self.set(name, version, Status.LOADING)
        await asyncio.sleep(seconds)
        if name in self.holds:
            await self.holds[name].wait()
        self.set(name, version, Status.END if error else Status.AVAILABLE, error)
        return error


@asynccontextmanager
async def serving(peer: TfServingPeer) -> AsyncIterator[str]:
    """Its address."""

    def unary(handler: Any, request: Any) -> grpc.RpcMethodHandler:
        return grpc.unary_unary_rpc_method_handler(
            handler,
            request_deserializer=request.FromString,
            response_serializer=lambda reply: reply.SerializeToString(),
        )

    methods = {
        "GetModelStatus": unary(peer.status, pb.GetModelStatusRequest),
        "HandleReloadConfigRequest": unary(peer.reload, pb.ReloadConfigRequest),
    }
    server = grpc.aio.server()
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("tensorflow.serving.ModelService", methods),))
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    try:
        yield f"127.0.0.1:{port}"
    finally:
        await server.stop(None)
