"""A server on TCP with mTLS: Envoy gets through with its certificate, nobody does without one."""

import asyncio
import ssl
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import trustme

from integration.stack.ports import free_port
from integration.stack.sidecar import Sidecar
from tests.integration.conftest import need_envoy
from tests.integration.recorder import recorder

NAME = "tbms.example"


def certificates(folder: Path) -> dict[str, Path]:
    """An authority, a certificate for the server and one for Envoy, as PEM files."""
    authority = trustme.CA()
    paths = {"ca": folder / "ca.pem"}
    authority.cert_pem.write_to_path(paths["ca"])
    for who, identity in (("server", NAME), ("envoy", "envoy.example")):
        issued = authority.issue_cert(identity)
        paths[who], paths[f"{who}-key"] = folder / f"{who}.pem", folder / f"{who}.key"
        issued.cert_chain_pems[0].write_to_path(paths[who])
        issued.private_key_pem.write_to_path(paths[f"{who}-key"])
    return paths


def sections(files: dict[str, Path], port: int) -> dict[str, dict[str, Any]]:
    tls = {"certificate": str(files["server"]), "key": str(files["server-key"]), "client_ca": str(files["ca"])}
    own = {"ca": str(files["ca"]), "certificate": str(files["envoy"]), "key": str(files["envoy-key"]), "name": NAME}
    return {"server": {"listen": f"127.0.0.1:{port}", "tls": tls}, "envoy": {"server_tls": own}}


@pytest.mark.envoy
@pytest.mark.parametrize("version", ["1.40", "1.36"])
async def test_calls_are_routed_over_mtls(version: str, tmp_path: Path) -> None:
    need_envoy(version)
    files = certificates(tmp_path)
    port = free_port()
    async with (
        recorder("only") as node,
        Sidecar(tmp_path, [node.node], envoy=version, sections=sections(files, port)) as edge,
    ):
        url = f"{edge.http}/v1/models/m:predict"
        async with aiohttp.ClientSession() as http, http.post(url, json={}) as reply:
            assert reply.status == 200
        async with aiohttp.ClientSession() as http, http.get(f"{edge.admin}/metrics") as reply:
            assert 'outcome="routed",protocol="tfs-rest",verb="predict"} 1.0' in await reply.text()
        trusting = ssl.create_default_context(cafile=files["ca"])
        with pytest.raises((ssl.SSLError, ConnectionError, asyncio.IncompleteReadError)):
            await _speak(port, trusting)


async def _speak(port: int, context: ssl.SSLContext) -> None:
    """Says the first words of HTTP/2 without a certificate, and waits for an answer."""
    context.set_alpn_protocols(["h2"])
    reader, writer = await asyncio.open_connection("127.0.0.1", port, ssl=context, server_hostname=NAME)
    try:
        writer.write(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes([0, 0, 0, 4, 0, 0, 0, 0, 0]))
        await reader.readexactly(9)
    finally:
        writer.close()
