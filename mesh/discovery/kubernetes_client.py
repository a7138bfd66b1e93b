"""How a Kubernetes API is reached: as the pod that we are in, or as a kubeconfig says."""

import base64
import binascii
import os
import ssl
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from mesh.errors import MeshError
from mesh.json_http import read_secret
from mesh.small_file import read_small
from mesh.system_words import safe_words

SERVICE_ACCOUNT = Path("/var/run/secrets/kubernetes.io/serviceaccount")


@dataclass(frozen=True, slots=True)
class Access:
    """`base` is the URL of the API. Neither the token nor the TLS context is ever printed."""

    base: str
    headers: Mapping[str, str]
    tls: ssl.SSLContext | None
    namespace: str | None

    def __repr__(self) -> str:
        return f"Access({self.base!r})"


def in_cluster(environ: Mapping[str, str] = os.environ, folder: Path = SERVICE_ACCOUNT) -> Access:
    """As the service account of this pod. Its token is rotated: call it anew for each connection. Raises MeshError."""
    host, port = environ.get("KUBERNETES_SERVICE_HOST"), environ.get("KUBERNETES_SERVICE_PORT")
    if not host or not port:
        raise MeshError("This is no pod of Kubernetes, and no kubeconfig is given")
    base = f"https://[{host}]:{port}" if ":" in host else f"https://{host}:{port}"
    token = read_secret(folder / "token")
    return Access(base, _bearer(token), _context(folder / "ca.crt", None), read_secret(folder / "namespace"))


def of_kubeconfig(file: Path, context: str | None) -> Access:
    """As a kubeconfig says, of its current context or another. Raises MeshError, also for what is not supported."""
    try:
        document = yaml.safe_load(read_small(file))
        name = context or document["current-context"]
        chosen = _named(document, "contexts", "context", name)
        cluster = _named(document, "clusters", "cluster", chosen["cluster"])
        user = _named(document, "users", "user", chosen["user"]) if chosen.get("user") else {}
        base = str(cluster["server"]).rstrip("/")
    except (OSError, yaml.YAMLError, UnicodeDecodeError) as error:
        raise MeshError(f"{file} cannot be read: {safe_words(error)}") from None
    except (KeyError, TypeError, AttributeError):
        raise MeshError(f"{file} is no kubeconfig with the context {context or 'that is current'}") from None
    if unsupported := {"exec", "auth-provider", "username"} & user.keys():
        raise MeshError(f"{file}: {sorted(unsupported)[0]} of a user is not supported: use a token or a certificate")
    if cluster.get("insecure-skip-tls-verify"):
        raise MeshError(f"{file}: insecure-skip-tls-verify is not supported")
    headers: Mapping[str, str] = {}
    if user.get("tokenFile") or user.get("token"):
        named = user.get("tokenFile")
        headers = _bearer(read_secret(file.parent / str(named)) if named else str(user["token"]))
    tls = None
    if base.startswith("https://"):
        certificate, key = (_pem(file, user, field) for field in ("client-certificate", "client-key"))
        pair = None if certificate is None or key is None else (certificate, key)
        tls = _context(_pem(file, cluster, "certificate-authority"), pair)
    elif not base.startswith("http://"):
        raise MeshError(f"{file}: the server of the cluster is no URL")
    return Access(base, headers, tls, chosen.get("namespace"))


def _named(document: Any, section: str, kind: str, name: str) -> dict[str, Any]:
    found = next((entry[kind] for entry in document[section] if entry["name"] == name), None)
    if not isinstance(found, dict):
        raise KeyError(name)
    return found


def _pem(file: Path, fields: dict[str, Any], name: str) -> Path | str | None:
    """A file that is named, or the text that is given in base64."""
    if (data := fields.get(f"{name}-data")) is not None:
        try:
            return base64.b64decode(data, validate=True).decode("ascii")
        except (binascii.Error, TypeError, ValueError):
            raise MeshError(f"{file}: {name}-data is not PEM in base64") from None
    named = fields.get(name)
    return None if named is None else file.parent / str(named)


def _context(ca: Path | str | None, pair: tuple[Path | str, Path | str] | None) -> ssl.SSLContext:
    try:
        text = isinstance(ca, str)
        context = ssl.create_default_context(cafile=None if text else ca, cadata=str(ca) if text else None)
        if pair is not None:
            # OpenSSL reads certificates of its own side out of files only.
            with tempfile.TemporaryDirectory() as folder:
                certificate, key = (_in_file(Path(folder) / str(place), each) for place, each in enumerate(pair))
                context.load_cert_chain(certificate, key)
    except (OSError, ValueError) as error:
        raise MeshError(f"The certificates for Kubernetes cannot be used: {type(error).__name__}") from None
    return context


def _in_file(place: Path, pem: Path | str) -> Path:
    if isinstance(pem, Path):
        return pem
    place.touch(mode=0o600)
    place.write_text(pem)
    return place


def _bearer(token: str) -> dict[str, str]:
    if not token.isascii() or not token.isprintable():
        raise MeshError("The token for Kubernetes is no printable ASCII")
    return {"Authorization": f"Bearer {token}"}
