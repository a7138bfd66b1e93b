"""A model server's reply to a call of ours, handed on as our answer to the client's."""

from typing import Final

from ext_proc.http2.headers import Headers
from ext_proc.processing.decision import Respond
from ext_proc.upstream.client import Response
from ext_proc.wire.call import InferenceProtocol
from ext_proc.wire.framing import frame

GRPC: Final[Headers] = (("content-type", b"application/grpc"),)
"""What every answer of gRPC begins with."""


def handed_on(response: Response, protocol: InferenceProtocol, told: Headers = ()) -> Respond:
    """The answer: status, headers, body and, for gRPC, trailers as they came. `told` are headers of ours."""
    if not protocol.is_grpc:
        return Respond(response.status, response.headers + told, response.body)
    headers = GRPC + tuple([pair for pair in response.headers if pair[0] != "content-type"]) + told
    return Respond(200, headers, frame(response.body) if response.grpc_status == 0 else b"", response.trailers or ())
