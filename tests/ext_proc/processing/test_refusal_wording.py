"""An error is worded as the call's own protocol does it, also where the call was never named."""

from types import SimpleNamespace

import pytest

from ext_proc.processing.machine import Machine
from tests.ext_proc.processing import envoy_says as envoy

RELOAD = "/tensorflow.serving.ModelService/HandleReloadConfigRequest"


@pytest.mark.parametrize(
    ("content_type", "grpc"),
    [("application/grpc", True), ("application/grpc+proto", True), ("application/grpc-web", False), ("", False)],
)
def test_only_grpc_itself_gets_a_grpc_status(content_type: str, grpc: bool) -> None:
    machine = Machine(SimpleNamespace(body_limit=1 << 20))
    (reply,) = envoy.read(machine.receive(envoy.grpc(RELOAD, content_type=content_type), 0.0))
    answer = reply.message.immediate_response
    assert answer is not None
    assert (answer.grpc_status is not None) is grpc
    assert answer.body.startswith(b"The model cache owns" if grpc else b'{"error":"The model cache owns')
