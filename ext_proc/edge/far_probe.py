"""A probe of a node of another zone: a small call that goes the way that clients' calls go, through Envoy's egress."""

import asyncio

from ext_proc.contract import MODEL_HEADER
from ext_proc.http2.headers import Headers
from ext_proc.racing.sending import Caller, why_away
from ext_proc.upstream.client import Request, UpstreamError
from ext_proc.upstream.hop_mark import HopMark
from ext_proc.wire.protobuf.fields import len_field
from mesh.node import Node

MODEL = "tbms-probe"
"""No model is called so: that a node says so is all that is asked."""
_REST_PATH = f"/v1/models/{MODEL}"
_GRPC_PATH = "/inference.GRPCInferenceService/ModelReady"
_GRPC_MESSAGE = len_field(1, MODEL.encode())


class FarProbe:
    """Asks a far node for the state of a model. Any answer of the node's own is a good one, in `timeout` seconds."""

    def __init__(self, upstream: Caller, hop: HopMark, timeout: float) -> None:
        self._upstream = upstream
        self._hop = hop
        self._timeout = timeout

    async def __call__(self, node: Node) -> str | None:
        """Why the node is not well, in one sentence, or None if it is, or if nothing could be sent to it from here."""
        try:
            async with asyncio.timeout(self._timeout):
                return why_away(await self._upstream.call(self._request(node)))
        except TimeoutError:
            return f"It did not answer within {self._timeout:g} s."
        except UpstreamError as error:
            return why_away(error)

    def _request(self, node: Node) -> Request:
        by_rest = node.endpoint("rest")
        where = by_rest or node.endpoint("grpc")
        assert where is not None, "a node speaks something"
        headers: Headers = (*self._hop.headers((where,)), (MODEL_HEADER, MODEL.encode()))
        if by_rest is not None:
            return Request(_REST_PATH, "GET", "tbms", headers, (), self._timeout, False, (where,))
        headers += (("content-type", b"application/grpc"),)
        return Request(_GRPC_PATH, "POST", "tbms", headers, (_GRPC_MESSAGE,), self._timeout, True, (where,))
