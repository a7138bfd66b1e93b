"""Addresses: as Envoy spells them, or refused."""

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from ext_proc.envoy_config.address import endpoint
from mesh.address import parse_address


@given(ip=st.ip_addresses().filter(lambda ip: not (ip.is_unspecified or ip.is_multicast)), port=st.integers(1, 65535))
def test_endpoints_keep_their_spelling(ip: Any, port: int) -> None:
    text = f"[{ip}]:{port}" if ip.version == 6 else f"{ip}:{port}"
    assert endpoint(text) == parse_address(text)
    assert (endpoint(text).host, endpoint(text).port) == (str(ip), port)


@given(st.text(max_size=40))
def test_any_text_is_an_address_or_refused(text: str) -> None:
    try:
        found = parse_address(text)
    except ValueError:
        return
    assert found.path.startswith("/") or (found.host and 0 < found.port < 65536)
