import pytest
from pydantic import TypeAdapter, ValidationError

from ext_proc.listen_address import ListenAddress

ADDRESS: TypeAdapter[str] = TypeAdapter(ListenAddress)


@pytest.mark.parametrize(
    "text", ["127.0.0.1:9902", "0.0.0.0:0", "[::1]:9902", "unix:/run/tbms/ext_proc.sock", "unix:/" + "x" * 98]
)
def test_a_listener_has_an_address_or_a_socket(text: str) -> None:
    assert ADDRESS.validate_python(text) == text


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("nowhere", "ip:port or unix:/path"),
        ("localhost:9902", "ip:port or unix:/path"),
        ("::1:9902", "brackets"),
        ("127.0.0.1:65536", "from 0 to 65535"),
        ("unix:relative", "absolute"),
        ("unix:/" + "x" * 99, "at most 99 bytes"),  # with .PID it would be longer than a socket's path may be
    ],
)
def test_any_other_text_is_refused_with_the_reason(text: str, complaint: str) -> None:
    with pytest.raises(ValidationError, match=complaint):
        ADDRESS.validate_python(text)
