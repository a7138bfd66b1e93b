"""One probe of one node: does every endpoint of it answer."""

import asyncio
from contextlib import suppress

from mesh.address import parse_endpoint
from mesh.errors import MeshError
from mesh.health.state import ProbeSettings
from mesh.node import Node
from mesh.system_words import system_words

_STATUS_LINE_BYTES = 1024


class EndpointProbe:
    """Connects to every endpoint of a node; with a path set, also sends a GET to the REST endpoint.

    Where the connections of this process are taken over by a sidecar, connecting proves nothing
    about the node: set a path there.
    """

    def __init__(self, settings: ProbeSettings) -> None:
        self._settings = settings

    async def __call__(self, node: Node) -> str | None:
        """Why the node is not well, in one sentence, or None if it is."""
        for endpoint in sorted(node.endpoints):
            path = self._settings.path if endpoint == node.rest else None
            try:
                async with asyncio.timeout(self._settings.timeout):
                    await _ask(endpoint, path)
            except TimeoutError:
                return f"{endpoint} did not answer within {self._settings.timeout:g} s."
            except (OSError, MeshError) as error:
                return f"{endpoint} failed: {system_words(error)}"
        return None


async def _ask(endpoint: str, path: str | None) -> None:
    address = parse_endpoint(endpoint)
    reader, writer = await asyncio.open_connection(address.host, address.port, limit=_STATUS_LINE_BYTES)
    try:
        if path is not None:
            writer.write(f"GET {path} HTTP/1.1\r\nHost: {endpoint}\r\nConnection: close\r\n\r\n".encode("ascii"))
            _expect_success(await _status_line(reader), path)
    finally:
        writer.close()
        with suppress(OSError):
            await writer.wait_closed()


async def _status_line(reader: asyncio.StreamReader) -> bytes:
    try:
        return await reader.readline()
    except ValueError:
        raise MeshError(f"its status line is longer than {_STATUS_LINE_BYTES} bytes.") from None


def _expect_success(line: bytes, path: str) -> None:
    version, _, rest = line.partition(b" ")
    status = rest[:3]
    if not version.startswith(b"HTTP/1.") or not (len(status) == 3 and status.isdigit()):
        raise MeshError(f"GET {path} was not answered in HTTP/1.")
    if not status.startswith(b"2"):
        raise MeshError(f"GET {path} was answered with {status.decode('ascii')}.")
