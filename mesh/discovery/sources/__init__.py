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


class OpenSources:
    """The sources of a `discovery` section. `by_name`: name -> source, in order; the name says where in the
    configuration it stands, and what it is."""

    def __init__(self, discovery: Sequence[SourceSettings]) -> None:
        self._open = [(each, open_source(each)) for each in discovery]

    @property
    def by_name(self) -> dict[str, NodeSource]:
        """See `OpenSources`."""
        return {f"discovery.{place} ({each.kind})": source for place, (each, source) in enumerate(self._open)}

    def replace(self, discovery: Sequence[SourceSettings]) -> bool:
        """The section has been read anew: an entry that is as one was keeps its source. Whether anything changed."""
        before = list(self._open)
        if [each for each, _ in before] == list(discovery):
            return False
        self._open = []
        for each in discovery:
            same = next((place for place, (had, _) in enumerate(before) if had == each), None)
            self._open.append((each, open_source(each)) if same is None else before.pop(same))
        return True


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
