"""Kuma versions: which Envoy each brings, and where the policies of one differ from those of another."""

from enum import Enum

from ext_proc.errors import ConfigError


class KumaVersion(Enum):
    """A minor version of Kuma; the value is its name on the command line."""

    V2_13 = "2.13"
    V2_14 = "2.14"
    V3_0 = "3.0"

    @property
    def envoy(self) -> str:
        """The Envoy that its kuma-dp brings along, as `1.N`."""
        return _ENVOYS[self]

    @property
    def has_tags(self) -> bool:
        """Whether Dataplanes have tags on their inbounds, and a service tag. Gone in 3.0."""
        return self is not KumaVersion.V3_0

    @property
    def has_legacy_names(self) -> bool:
        """Whether a proxy's resources may have names that are no KRIs."""
        return self is not KumaVersion.V3_0

    @property
    def selects_by_labels(self) -> bool:
        """Whether a MeshService selects Dataplanes by labels; 2.13 knows tags only."""
        return self is not KumaVersion.V2_13

    @property
    def names_services(self) -> bool:
        """Whether a policy may name a MeshService; in 3.0 it is found by labels only."""
        return self is not KumaVersion.V3_0

    @property
    def has_identities(self) -> bool:
        """Whether callers are allowed by SPIFFE ids here. 2.13 has the kinds, too; most of its meshes go by `mtls`."""
        return self is not KumaVersion.V2_13

    @property
    def has_builtin_gateway(self) -> bool:
        """Whether there are MeshGateways. In 3.0 a gateway is any proxy that stands behind a sidecar (delegated)."""
        return self is not KumaVersion.V3_0

    @property
    def has_admin_socket(self) -> bool:
        """Whether Envoy's admin interface is a Unix socket, in kuma-dp's working directory, and no port of its own.

        kuma-dp passes questions on to it at the port at which it tells its readiness (9902); not those that end Envoy.
        """
        return self is not KumaVersion.V2_13

    @property
    def has_telemetry_backends(self) -> bool:
        """Whether a collector is a resource of its own, MeshOpenTelemetryBackend."""
        return self is not KumaVersion.V2_13


_ENVOYS = {KumaVersion.V2_13: "1.36", KumaVersion.V2_14: "1.38", KumaVersion.V3_0: "1.39"}


def kuma_version(part: str, text: str) -> KumaVersion:
    """Reads "2.14" or "2.14.3". Raises ConfigError that names the `part`, for a version that is not supported."""
    minor = ".".join(text.split(".")[:2])
    for version in KumaVersion:
        if version.value == minor:
            return version
    known = ", ".join(version.value for version in KumaVersion)
    raise ConfigError(f"{part}: {text!r} is not supported; {known} are")
