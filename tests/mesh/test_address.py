import socket
from ipaddress import IPv4Address
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mesh.address import MAX_SOCKET_PATH, Address, AddressError, parse_address, parse_endpoint
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


@given(ip=st.ip_addresses(v=4), port=st.integers(0, 99_999))
def test_an_ipv4_endpoint_is_what_the_standard_library_takes_for_one(ip: IPv4Address, port: int) -> None:
    text = f"{ip}:{port}"
    if 0 < port < 65536 and not (ip.is_unspecified or ip.is_multicast):
        assert parse_endpoint(text) == Address(str(ip), port)
    else:
        with pytest.raises(AddressError):
            parse_endpoint(text)


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("10.0.0.03:8500", "not an IP address"),
        ("10.0.0.3.4:8500", "not an IP address"),
        ("10.0.0.3:8500\n", "from 1 to 65535"),
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


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("10.0.0.3:8500", Address("10.0.0.3", 8500)),
        ("0.0.0.0:1", Address("0.0.0.0", 1)),
        ("[fd00::3]:8500", Address("fd00::3", 8500)),
        ("[::]:8500", Address("::", 8500)),
        ("localhost:8500", Address("localhost", 8500)),
        ("models-1.svc:65535", Address("models-1.svc", 65535)),
        ("unix:/run/tbms.sock", Address(path="/run/tbms.sock")),
        ("unix:/a:b", Address(path="/a:b")),
    ],
)
def test_an_address_has_one_spelling_and_is_written_as_it_was_read(text: str, expected: Address) -> None:
    assert parse_address(text) == expected
    assert str(expected) == text


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("", "expected ip:port or unix:/path"),
        ("nowhere", "expected ip:port or unix:/path"),
        (":8500", "expected ip:port or unix:/path"),
        ("::8500", "expected ip:port or unix:/path"),
        ("10.0.0.3:0", "from 1 to 65535"),
        ("10.0.0.3:65536", "from 1 to 65535"),
        ("10.0.0.3:٣", "from 1 to 65535"),
        ("::1:8500", "brackets"),
        ("[10.0.0.3]:8500", "brackets"),
        ("[localhost]:8500", "neither an IP address nor a DNS name"),
        ("a b:8500", "neither an IP address nor a DNS name"),
        ("http://10.0.0.3:8500", "neither an IP address nor a DNS name"),
        ("x" * 64 + ":8500", "neither an IP address nor a DNS name"),
        ("unix:", "absolute"),
        ("unix:relative", "absolute"),
        ("unix:/a\0b", "absolute"),
        ("unix:/" + "x" * MAX_SOCKET_PATH, "107 bytes"),
        ("unix:/" + "ä" * 54, "107 bytes"),
    ],
)
def test_any_other_text_is_refused_with_the_reason(text: str, complaint: str) -> None:
    with pytest.raises(AddressError, match=complaint):
        parse_address(text)


def test_only_a_listener_may_leave_its_port_to_the_system() -> None:
    assert parse_address("127.0.0.1:0", listening=True) == Address("127.0.0.1", 0)
    with pytest.raises(AddressError, match="from 0 to 65535"):
        parse_address("127.0.0.1:65536", listening=True)


def test_a_socket_can_be_bound_to_the_longest_path_and_to_none_that_is_longer(tmp_path: Path) -> None:
    assert len(str(tmp_path)) < MAX_SOCKET_PATH - 1
    longest = str(tmp_path / "x").ljust(MAX_SOCKET_PATH, "x")
    assert parse_address(f"unix:{longest}").path == longest
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(longest)
    with socket.socket(socket.AF_UNIX) as listener, pytest.raises(OSError, match="too long"):
        listener.bind(longest + "x")


@given(st.text(max_size=40) | st.from_regex(r"(unix:)?[\[\]0-9a-f:./]{0,20}:[0-9]{0,6}", fullmatch=True))
def test_any_text_is_an_address_or_refused(text: str) -> None:
    try:
        found = parse_address(text)
    except AddressError:
        return
    assert str(found) == text or found.host in text
    assert found.path.startswith("/") or (found.host and 0 < found.port < 65536)


@pytest.mark.parametrize(
    ("text", "is_local"),
    [("unix:/x", True), ("127.0.0.1:1", True), ("[::1]:1", True), ("10.0.0.3:1", False), ("localhost:1", False)],
)
def test_an_address_knows_whether_only_this_machine_can_reach_it(text: str, is_local: bool) -> None:
    assert parse_address(text).is_local is is_local


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
