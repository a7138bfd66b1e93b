"""Certificates of a test: an authority, and files of those that it vouches for, or did until they expired."""

import ssl
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import trustme

_PAST = datetime(2001, 1, 1, tzinfo=UTC)


@dataclass(frozen=True)
class Pair:
    """A certificate and its key, PEM files."""

    certificate: Path
    key: Path


class Authority:
    """Writes its files into `folder`; `ca` is its own certificate."""

    def __init__(self, folder: Path, name: str = "ca") -> None:
        self._authority = trustme.CA()
        self._folder = folder
        self._issued = 0
        self.name = name
        self.ca = folder / f"{name}.pem"
        self._authority.cert_pem.write_to_path(self.ca)

    def issue(self, identity: str, *, expired: bool = False, user: str | None = None, group: str | None = None) -> Pair:
        """For a host name or address. `user` and `group` are what Kubernetes reads out of a client's."""
        issued = self._authority.issue_cert(
            identity, common_name=user, organization_name=group, not_after=_PAST if expired else None
        )
        self._issued += 1
        stem = f"{self.name}-{self._issued}"
        pair = Pair(self._folder / f"{stem}.pem", self._folder / f"{stem}.key")
        issued.private_key_pem.write_to_path(pair.key)
        pair.certificate.write_bytes(b"".join(pem.bytes() for pem in issued.cert_chain_pems))
        return pair

    def server(self, *, expired: bool = False) -> ssl.SSLContext:
        """Of a service at 127.0.0.1 that asks its clients for a certificate of this authority."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        pair = self.issue("127.0.0.1", expired=expired)
        context.load_cert_chain(pair.certificate, pair.key)
        context.load_verify_locations(self.ca)
        context.verify_mode = ssl.CERT_REQUIRED
        return context
