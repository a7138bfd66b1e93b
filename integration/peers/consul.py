"""A real Consul: one agent that is its own server, with ACLs, on free ports of this machine. `make peers` builds it."""

import json
import uuid
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp

from integration.peers.from_source import CONSUL, place
from integration.stack.ports import free_ports
from integration.stack.process import Process


@dataclass(frozen=True)
class ConsulTls:
    """What it shows its clients, and the authority of the certificate that it asks of them. PEM files."""

    certificate: Path
    key: Path
    client_ca: Path


class Consul:
    """`async with Consul(folder)`. `url` is where it is reached, `master` a token that may do anything; who shows none
    may do nothing. With `tls` it is also reached at `tls_url`. `process` may be stopped and started again, and keeps
    what it knew. Raises FileNotFoundError where it was not built."""

    def __init__(self, folder: Path, tls: ConsulTls | None = None) -> None:
        http, https, lan, rpc = free_ports(4)
        self.url, self.tls_url = f"http://127.0.0.1:{http}", f"https://127.0.0.1:{https}"
        self.master = str(uuid.uuid4())
        document: dict[str, Any] = {
            "server": True, "bootstrap_expect": 1, "node_name": "vm", "data_dir": str(folder / "consul"),
            "bind_addr": "127.0.0.1", "client_addr": "127.0.0.1", "disable_update_check": True, "log_level": "warn",
            "performance": {"raft_multiplier": 1}, "connect": {"enabled": False},
            "ports": {
                "http": http, "https": -1 if tls is None else https, "dns": -1, "grpc": -1, "grpc_tls": -1,
                "server": rpc, "serf_lan": lan, "serf_wan": -1,
            },
            "acl": {
                "enabled": True, "default_policy": "deny", "enable_token_persistence": True,
                "tokens": {"initial_management": self.master, "agent": self.master},
            },
        }  # fmt: skip
        if tls is not None:
            document["tls"] = {
                "defaults": {
                    "ca_file": str(tls.client_ca), "cert_file": str(tls.certificate), "key_file": str(tls.key),
                    "verify_incoming": True,
                }
            }  # fmt: skip
        config = folder / "consul.json"
        config.write_text(json.dumps(document))
        command: list[str | Path] = [place(CONSUL, "."), "agent", "-config-file", config]
        self.process = Process("consul", command, folder / "consul.log")

    async def __aenter__(self) -> "Consul":
        await self.start()
        return self

    async def __aexit__(self, *exc: object) -> None:
        self.process.kill()

    async def start(self) -> None:
        """Returns once it has a leader and knows its own host."""
        await self.process.start(self._leads)

    async def put(self, name: str, ip: str, *, tags: tuple[str, ...] = (), **meta: str) -> None:
        """Registers an instance of the service `models`; it passes, since it has no check."""
        body = {"ID": name, "Name": "models", "Address": ip, "Meta": meta, "Tags": list(tags)}
        await self.call("PUT", "/v1/agent/service/register", body)

    async def delete(self, name: str) -> None:
        """Takes it back."""
        await self.call("PUT", f"/v1/agent/service/deregister/{name}")

    async def token(self, rules: str) -> str:
        """A token that may do what these rules (HCL) say."""
        name = f"rules-{uuid.uuid4().hex}"
        await self.call("PUT", "/v1/acl/policy", {"Name": name, "Rules": rules})
        made = await self.call("PUT", "/v1/acl/token", {"Policies": [{"Name": name}]})
        return str(made["SecretID"])

    async def call(self, method: str, path: str, body: Any = None) -> Any:
        """One call that has to go well, with the token that may do anything; the document of the reply."""
        headers = {"X-Consul-Token": self.master}
        async with (
            aiohttp.ClientSession(headers=headers) as http,
            http.request(method, self.url + path, json=body) as reply,
        ):
            reply.raise_for_status()
            text = await reply.text()
            return json.loads(text) if text.strip() else None

    async def _leads(self) -> bool:
        try:
            return bool(await self.call("GET", "/v1/catalog/node-services/vm"))
        except (aiohttp.ClientError, TimeoutError):
            return False
