"""A real etcd of one member, on free ports of this machine. `integration/setup.sh etcd` puts Debian's under build/."""

import base64
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp

from integration.stack.ports import free_ports
from integration.stack.process import Process, answers

_BUILT = Path(__file__).parents[2] / "build/etcd/usr/bin/etcd"


def etcd_binary() -> Path:
    """Ours, or the one that is installed. Raises FileNotFoundError."""
    installed = shutil.which("etcd")
    if not _BUILT.exists() and installed is None:
        raise FileNotFoundError("No etcd here: integration/setup.sh etcd")
    return _BUILT if _BUILT.exists() else Path(installed or "")


@dataclass(frozen=True)
class EtcdTls:
    """What it shows its clients, and the authority of the certificate that it asks of them. PEM files."""

    certificate: Path
    key: Path
    client_ca: Path


class Etcd:
    """`async with Etcd(folder)`. `url` is where it is reached; `process` may be stopped, paused and started again.
    With `tls` the methods that call it cannot be used. Raises FileNotFoundError where there is none."""

    def __init__(self, folder: Path, tls: EtcdTls | None = None) -> None:
        ports = free_ports(3)
        peer, self._health = (f"http://127.0.0.1:{port}" for port in ports[1:])
        client = self.url = f"{'http' if tls is None else 'https'}://127.0.0.1:{ports[0]}"
        command: list[str | Path] = [
            etcd_binary(), "--name", "one", "--data-dir", folder / "etcd", "--listen-client-urls", client,
            "--advertise-client-urls", client, "--listen-peer-urls", peer, "--initial-advertise-peer-urls", peer,
            "--initial-cluster", f"one={peer}", "--listen-metrics-urls", self._health,
        ]  # fmt: skip
        if tls is not None:
            command += ["--cert-file", tls.certificate, "--key-file", tls.key]
            command += ["--client-cert-auth", "--trusted-ca-file", tls.client_ca]
        self.process = Process("etcd", command, folder / "etcd.log")

    async def __aenter__(self) -> "Etcd":
        await self.start()
        return self

    async def __aexit__(self, *exc: object) -> None:
        self.process.kill()

    async def start(self) -> None:
        """Returns once it takes calls."""
        await self.process.start(answers(f"{self._health}/health"))

    async def put(self, key: str, value: str) -> None:
        """Writes one key."""
        await self.call("kv/put", {"key": _b64(key), "value": _b64(value)})

    async def delete(self, key: str) -> None:
        """Deletes one key."""
        await self.call("kv/deleterange", {"key": _b64(key)})

    async def get(self, key: str) -> str | None:
        """The value of one key."""
        found = (await self.call("kv/range", {"key": _b64(key)})).get("kvs")
        return base64.b64decode(found[0]["value"]).decode() if found else None

    async def compact(self) -> None:
        """Forgets everything before the revision of now."""
        revision = (await self.call("kv/range", {"key": _b64("x")}))["header"]["revision"]
        await self.call("kv/compaction", {"revision": revision, "physical": True})

    async def call(self, method: str, body: dict[str, Any]) -> dict[str, Any]:
        """One call of its JSON gateway."""
        async with aiohttp.ClientSession() as http, http.post(f"{self.url}/v3/{method}", json=body) as reply:
            reply.raise_for_status()
            document: dict[str, Any] = await reply.json()
            return document


def _b64(text: str) -> str:
    return base64.b64encode(text.encode()).decode()
