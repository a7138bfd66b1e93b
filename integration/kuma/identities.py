"""Certificates of a mesh: one authority, and a certificate with SPIFFE ids for each sidecar (PyPI cryptography)."""

from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from integration.kuma.bootstrap import Identity

_LIFE = timedelta(days=1)


class Authority:
    """An authority whose files lie in a folder."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "mesh")])
        builder = self._certificate(self._key.public_key(), self._name)
        self._own = builder.add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True).sign(
            self._key, hashes.SHA256()
        )
        self.file = folder / "authority.pem"
        self.file.write_bytes(self._own.public_bytes(serialization.Encoding.PEM))

    def issue(self, name: str, ids: Iterable[str]) -> Identity:
        """A certificate for these SPIFFE ids, in files called after `name`."""
        key = ec.generate_private_key(ec.SECP256R1())
        ids = x509.SubjectAlternativeName([x509.UniformResourceIdentifier(each) for each in sorted(ids)])
        builder = self._certificate(key.public_key(), x509.Name([])).add_extension(ids, critical=True)
        issued = builder.sign(self._key, hashes.SHA256())
        identity = Identity(self._folder / f"{name}.pem", self._folder / f"{name}.key", self.file)
        identity.certificate.write_bytes(issued.public_bytes(serialization.Encoding.PEM))
        identity.key.write_bytes(
            key.private_bytes(
                serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
            )
        )
        return identity

    def _certificate(self, key: ec.EllipticCurvePublicKey, subject: x509.Name) -> x509.CertificateBuilder:
        now = datetime.now(UTC)
        return (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(self._name)
            .public_key(key)
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - timedelta(minutes=5))
            .not_valid_after(now + _LIFE)
        )
