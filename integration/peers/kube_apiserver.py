"""A real kube-apiserver over a real etcd, on free ports of this machine, with its kubectl. `make peers` builds both.

There is no scheduler, no controller and no kubelet: objects are stored, validated, watched and authorised, and nothing
comes of them.
"""

import json
import ssl
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp
import yaml
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from integration.peers.from_source import KUBERNETES, place
from integration.stack.ports import free_ports
from integration.stack.process import Process, output_of

SLICES = "/apis/discovery.k8s.io/v1/namespaces/ml/endpointslices"
_ADMIN = "token-of-the-test"
_AUDIT = {
    "apiVersion": "audit.k8s.io/v1",
    "kind": "Policy",
    "omitStages": ["RequestReceived"],
    "rules": [{"level": "Metadata", "resources": [{"group": "discovery.k8s.io"}]}, {"level": "None"}],
}


@dataclass(frozen=True)
class ApiServerTls:
    """Its certificate, the authority of that, and the authority of clients' certificates. PEM files."""

    certificate: Path
    key: Path
    ca: Path


@dataclass
class KubeApiserver:
    """`async with KubeApiserver(folder, etcd_url)`. Its users: an administrator with a token (`kubectl`, `call`),
    service accounts (`account_token`), and certificates of the authority of `tls`. Without `tls` it makes a certificate
    for itself. `cached` is whether watches are served from its memory, as usual, or out of etcd.
    Raises FileNotFoundError where it was not built.
    """

    folder: Path
    etcd: str
    tls: ApiServerTls | None = None
    cached: bool = True
    url: str = ""
    process: Process = field(init=False)

    def __post_init__(self) -> None:
        port = free_ports(1)[0]
        self.url = f"https://127.0.0.1:{port}"
        self._audit, self._kubectl = self.folder / "audit.log", place(KUBERNETES, "./cmd/kubectl")
        tokens, policy, key = (self.folder / name for name in ("tokens.csv", "audit.yaml", "accounts.pem"))
        tokens.write_text(f'{_ADMIN},admin,admin,"system:masters"\n')
        policy.write_text(yaml.safe_dump(_AUDIT))
        if not key.exists():
            key.write_bytes(_rsa_key())
        command: list[str | Path] = [
            place(KUBERNETES, "./cmd/kube-apiserver"), f"--etcd-servers={self.etcd}", "--bind-address=127.0.0.1",
            f"--secure-port={port}",
            "--authorization-mode=RBAC", f"--token-auth-file={tokens}", "--anonymous-auth=true",
            "--service-account-issuer=https://kubernetes.default.svc", f"--service-account-key-file={key}",
            f"--service-account-signing-key-file={key}", "--service-cluster-ip-range=10.96.0.0/16",
            f"--cert-dir={self.folder / 'certs'}", f"--audit-policy-file={policy}", f"--audit-log-path={self._audit}",
            "--disable-admission-plugins=ServiceAccount", "--endpoint-reconciler-type=none",
        ]  # fmt: skip
        self.ca = self.folder / "certs/apiserver.crt"
        if self.tls is not None:
            self.ca = self.tls.ca
            command += [f"--tls-cert-file={self.tls.certificate}", f"--tls-private-key-file={self.tls.key}"]
            command.append(f"--client-ca-file={self.tls.ca}")
        if not self.cached:
            command.append("--watch-cache=false")
        self.process = Process("kube-apiserver", command, self.folder / "kube-apiserver.log")
        self.kubeconfig = self.write_kubeconfig("admin", {"token": _ADMIN})

    async def __aenter__(self) -> "KubeApiserver":
        await self.start()
        return self

    async def __aexit__(self, *exc: object) -> None:
        self.process.kill()

    async def start(self) -> None:
        """Returns once it is ready, its own roles and bindings included."""
        await self.process.start(self._ready, within=120)

    def write_kubeconfig(
        self, name: str, user: dict[str, Any], *, ca: Path | None = None, namespace: str = "ml"
    ) -> Path:
        """A kubeconfig of that user of this server."""
        context = {"name": "here", "context": {"cluster": "c", "user": "u", "namespace": namespace}}
        cluster = {"server": self.url, "certificate-authority": str(ca or self.ca)}
        document = {
            "apiVersion": "v1", "kind": "Config", "current-context": "here", "contexts": [context],
            "clusters": [{"name": "c", "cluster": cluster}], "users": [{"name": "u", "user": user}],
        }  # fmt: skip
        file = self.folder / f"{name}.kubeconfig"
        file.write_text(yaml.safe_dump(document))
        return file

    async def kubectl(self, *arguments: str | Path) -> str:
        """What kubectl prints, as the administrator. Raises ProcessError with what it printed."""
        command: Sequence[str | Path] = [self._kubectl, "--kubeconfig", self.kubeconfig, *arguments]
        return await output_of("kubectl", command, self.folder / "kubectl.log")

    async def apply(self, *documents: dict[str, Any]) -> None:
        """Server-side apply; fields that the schema does not know are errors."""
        file = self.folder / "apply.yaml"
        file.write_text(yaml.safe_dump_all(documents))
        await self.kubectl("apply", "--server-side", "--force-conflicts", "--validate=strict", "-f", file)

    async def put(self, name: str, service: str, **fields: Any) -> None:
        """Writes an EndpointSlice of that Service in the namespace `ml`."""
        labels = {"kubernetes.io/service-name": service, "endpointslice.kubernetes.io/managed-by": "the-test"}
        document = {
            "apiVersion": "discovery.k8s.io/v1",
            "kind": "EndpointSlice",
            "metadata": {"name": name, "labels": labels},
        }
        status, said = await self.call("POST", SLICES, {**document, **fields})
        if status == 409:
            status, said = await self.call("PUT", f"{SLICES}/{name}", {**document, **fields})
        if status not in (200, 201):
            raise LookupError(f"no slice {name}: {said}")

    async def delete(self, name: str) -> None:
        """Deletes one."""
        await self.call("DELETE", f"{SLICES}/{name}")

    async def call(self, method: str, path: str, body: Any = None, *, token: str = _ADMIN) -> tuple[int, Any]:
        """One call of its API: the status and the document of the reply."""
        headers = {"Authorization": f"Bearer {token}"}
        context = ssl.create_default_context(cafile=self.ca)
        connector = aiohttp.TCPConnector(ssl=context)
        async with (
            aiohttp.ClientSession(headers=headers, connector=connector) as http,
            http.request(method, self.url + path, json=body) as reply,
        ):
            text = await reply.text()
            try:
                return reply.status, json.loads(text)
            except ValueError:
                return reply.status, text

    async def account_token(self, name: str, namespace: str = "ml") -> str:
        """A token of a service account, as a pod would get it."""
        status, document = await self.call(
            "POST",
            f"/api/v1/namespaces/{namespace}/serviceaccounts/{name}/token",
            {"spec": {"expirationSeconds": 3600}},
        )
        if status != 201:
            raise LookupError(f"no token for {name}: {document}")
        return str(document["status"]["token"])

    def audited(self, user: str) -> list[dict[str, Any]]:
        """What that user has asked of EndpointSlices, in the order in which it began: verb, requestURI and so on."""
        events: dict[str, dict[str, Any]] = {}
        lines = self._audit.read_text().splitlines() if self._audit.exists() else []
        for line in lines:
            event = json.loads(line)
            if event["user"]["username"] == user:
                events.setdefault(event["auditID"], event)
        return list(events.values())

    async def _ready(self) -> bool:
        try:
            return (await self.call("GET", "/readyz"))[0] == 200
        except (aiohttp.ClientError, OSError, TimeoutError):  # its certificate may not be there yet
            return False


def _rsa_key() -> bytes:
    return rsa.generate_private_key(public_exponent=65537, key_size=2048).private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.TraditionalOpenSSL, serialization.NoEncryption()
    )
