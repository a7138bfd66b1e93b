import json

import pytest

from ext_proc.errors import CallError, Reason
from ext_proc.wire.call import InferenceProtocol
from ext_proc.wire.reply import Reply, error_reply


@pytest.mark.parametrize("reason", Reason)
@pytest.mark.parametrize("protocol", [*InferenceProtocol, None])
def test_every_error_in_every_protocol(protocol: InferenceProtocol | None, reason: Reason) -> None:
    reply = error_reply(protocol, CallError(reason, 'The name "é" is bad.'))
    headers = dict(reply.headers)
    assert reply.status == reason.http
    assert ("retry-after" in headers) is (reason is Reason.OVERLOADED)
    if protocol in (InferenceProtocol.TFS_GRPC, InferenceProtocol.V2_GRPC):
        assert reply.grpc_status == reason.grpc
        assert reply.body.decode() == 'The name "é" is bad.'
        assert "content-type" not in headers
    else:
        assert reply.grpc_status is None
        assert json.loads(reply.body) == {"error": 'The name "é" is bad.'}
        assert headers["content-type"] == "application/json"


def test_json_is_written_as_each_server_writes_it() -> None:
    error = CallError(Reason.NOT_FOUND, 'No "m".')
    assert error_reply(InferenceProtocol.TFS_REST, error).body == b'{\n    "error": "No \\"m\\"."\n}'
    assert error_reply(InferenceProtocol.V2_REST, error).body == b'{"error":"No \\"m\\"."}'


def test_an_overloaded_reply_in_full() -> None:
    assert error_reply(InferenceProtocol.V2_GRPC, CallError(Reason.OVERLOADED, "Full.")) == Reply(
        429, (("retry-after", "1"),), b"Full.", 8
    )


@pytest.mark.parametrize(("seconds", "told"), [(0.0, "1"), (0.2, "1"), (2.0, "2"), (2.5, "3")])
@pytest.mark.parametrize("protocol", InferenceProtocol)
def test_when_to_come_back_in_whole_seconds(protocol: InferenceProtocol, seconds: float, told: str) -> None:
    reply = error_reply(protocol, CallError(Reason.UNAVAILABLE, "Busy.", seconds))
    assert dict(reply.headers)["retry-after"] == told


@pytest.mark.parametrize("protocol", [*InferenceProtocol, None])
def test_an_error_says_whether_another_node_may_serve_the_call(protocol: InferenceProtocol | None) -> None:
    for elsewhere in (True, False):
        reply = error_reply(protocol, CallError(Reason.UNAVAILABLE, "Busy.", elsewhere=elsewhere))
        assert dict(reply.headers).get("x-tbms-elsewhere") == ("1" if elsewhere else None)


def test_a_message_that_is_no_text_does_no_harm() -> None:
    assert error_reply(None, CallError(Reason.INVALID, "\udcff")).body == b'{"error":"\\udcff"}'
