"""The sources of nodes: one file each, with its settings. The `discovery` section lists them."""

from collections.abc import Sequence
from typing import Annotated, assert_never

from pydantic import Field

from mesh.discovery.node_source import NodeSource
from mesh.discovery.sources.consul import ConsulSettings, ConsulSource
from mesh.discovery.sources.dns import DnsSettings, DnsSource
from mesh.discovery.sources.envoy import EnvoySource, EnvoySourceSettings
from mesh.discovery.sources.etcd import EtcdSettings, EtcdSource
from mesh.discovery.sources.kubernetes import KubernetesSettings, KubernetesSource
from mesh.discovery.sources.kuma import KumaSettings, KumaSource
from mesh.discovery.sources.static import StaticSettings, StaticSource

SourceSettings = Annotated[
    StaticSettings
    | DnsSettings
    | EtcdSettings
    | EnvoySourceSettings
    | KumaSettings
    | KubernetesSettings
    | ConsulSettings,
    Field(discriminator="kind"),
]
DiscoveryList = Annotated[tuple[SourceSettings, ...], Field(max_length=16)]
"""The type of the `discovery` section."""


def open_sources(discovery: Sequence[SourceSettings]) -> dict[str, NodeSource]:
    """Name -> source, in order; the name says where in the configuration it stands, and what it is."""
    return {f"discovery.{place} ({each.kind})": open_source(each) for place, each in enumerate(discovery)}


def open_source(settings: SourceSettings) -> NodeSource:
    """The source that such a section describes. It does nothing yet."""
    match settings:
        case StaticSettings():
            return StaticSource(tuple(node.node() for node in settings.nodes))
        case DnsSettings():
            return DnsSource(settings)
        case EtcdSettings():
            return EtcdSource(settings)
        case EnvoySourceSettings():
            return EnvoySource(settings)
        case KumaSettings():
            return KumaSource(settings)
        case KubernetesSettings():
            return KubernetesSource(settings)
        case ConsulSettings():
            return ConsulSource(settings)
        case _ as never:
            assert_never(never)
