import pytest

from ext_proc.wire.content_type import is_grpc


@pytest.mark.parametrize(
    ("content_type", "grpc"),
    [
        ("application/grpc", True),
        ("application/grpc+proto", True),
        ("application/grpc+json", True),
        ("application/grpc;charset=utf-8", True),
        ("application/grpc-web", False),
        ("application/grpc-web+proto", False),
        ("application/grpc-web-text", False),
        ("application/grpcx", False),
        ("application/json", False),
        ("", False),
    ],
)
def test_what_counts_as_grpc(content_type: str, grpc: bool) -> None:
    assert is_grpc(content_type) is grpc
