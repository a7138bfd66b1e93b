import pytest

from mesh.address import parse_endpoint
from mesh.errors import MeshError
from mesh.node import Node


@pytest.mark.parametrize(
    ("text", "canonical"),
    [
        ("10.0.0.3:8500", "10.0.0.3:8500"),
        ("127.0.0.1:1", "127.0.0.1:1"),
        ("10.0.0.3:65535", "10.0.0.3:65535"),
        ("[fd00::3]:8500", "[fd00::3]:8500"),
        ("[FD00:0:0:0:0:0:0:3]:8500", "[fd00::3]:8500"),
    ],
)
def test_an_endpoint_is_written_as_envoy_writes_it(text: str, canonical: str) -> None:
    assert str(parse_endpoint(text)) == canonical
    assert parse_endpoint(canonical) == parse_endpoint(text)


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("models.svc:8500", "'models.svc', which is not an IP address.*DNS name"),
        ("localhost:8500", "DNS name"),
        ("10.0.0.300:8500", "not an IP address"),
        ("10.0.0.3", "expected ip:port"),
        (":8500", "expected ip:port"),
        ("", "expected ip:port"),
        ("10.0.0.3:", "port ''"),
        ("10.0.0.3:0", "from 1 to 65535"),
        ("10.0.0.3:65536", "from 1 to 65535"),
        ("10.0.0.3:+80", "from 1 to 65535"),
        ("10.0.0.3:８０", "from 1 to 65535"),
        ("10.0.0.3:85 00", "from 1 to 65535"),
        ("10.0.0.3:" + "1" * 5_000, "from 1 to 65535"),
        ("fd00::3:8500", "brackets"),
        ("[10.0.0.3]:8500", "brackets"),
        ("[fd00::3:8500", "DNS name"),
        ("[fe80::1%eth0]:8500", "scope"),
        ("0.0.0.0:8500", "unspecified"),
        ("[::]:8500", "unspecified"),
        ("224.0.0.1:8500", "multicast"),
        ("http://10.0.0.3:8500", "DNS name"),
    ],
)
def test_what_envoy_could_not_match_is_refused_with_the_reason(text: str, complaint: str) -> None:
    with pytest.raises(MeshError, match=complaint):
        parse_endpoint(text)


@pytest.mark.parametrize("weight", [0.0, -1.0, float("nan"), float("inf")])
def test_a_node_has_a_positive_weight(weight: float) -> None:
    with pytest.raises(MeshError, match="'a'"):
        Node("a", weight=weight)


def test_a_node_has_an_id() -> None:
    with pytest.raises(MeshError, match="no id"):
        Node("")


def test_a_node_knows_its_endpoints_by_kind() -> None:
    node = Node("a", grpc="10.0.0.3:8500")
    assert (node.endpoint("grpc"), node.endpoint("rest")) == ("10.0.0.3:8500", None)
    assert node.endpoints == {"10.0.0.3:8500"}
