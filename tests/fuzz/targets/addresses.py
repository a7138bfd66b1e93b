"""Addresses and endpoints, as the configuration and hints in replies have them."""

from mesh.address import AddressError, parse_address, parse_endpoint
from tests.fuzz.reader import Reader
from tests.fuzz.target import Target


def run(data: bytes) -> None:
    reader = Reader(data)
    listening, text = reader.flag(), reader.rest().decode(errors="surrogateescape")
    try:
        address = parse_address(text, listening=listening)
        assert parse_address(str(address), listening=listening) == address
    except AddressError:
        pass
    try:
        endpoint = parse_endpoint(text)
    except AddressError:
        return
    assert parse_endpoint(str(endpoint)) == endpoint
    assert str(endpoint).isascii()


TARGET = Target(
    run,
    (
        b"\010.0.0.3:8500",
        b"\1[fd00::3]:0",
        b"\0models.svc:8500",
        b"\0unix:/run/tbms/ext_proc.sock",
        b"\0[::ffff:1.2.3.4%1]:1",
    ),
    (b"[", b"]", b":", b"::", b"%", b".", b"unix:/", b"0", b"65535", b"ffff"),
    longest=512,
)
