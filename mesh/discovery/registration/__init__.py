"""Registration: a node itself says that it is there, to a service that edges discover nodes by."""

from typing import Annotated, Self, assert_never

from pydantic import Field, model_validator

from mesh.discovery.registration.consul import ConsulEntry, ConsulRegistrationSettings, check_registrable
from mesh.discovery.registration.etcd import EtcdEntry, EtcdRegistrationSettings
from mesh.discovery.registration.keeping import Entry, Registration
from mesh.discovery.settings import NodeSettings
from mesh.node import Node

ServiceSettings = Annotated[EtcdRegistrationSettings | ConsulRegistrationSettings, Field(discriminator="kind")]


class RegistrationSettings(NodeSettings):
    """The `node.registration` section: what edges are told of this node, and by what."""

    via: tuple[ServiceSettings, ...] = Field(min_length=1, max_length=8, description="The services that it is told to.")

    @model_validator(mode="after")
    def _registrable(self) -> Self:
        if any(isinstance(each, ConsulRegistrationSettings) for each in self.via):
            check_registrable(self.node())
        return self


def open_registrations(settings: RegistrationSettings) -> tuple[Registration, ...]:
    """One for each service. They do nothing yet."""
    node = settings.node()
    return tuple(Registration(_entry(each, node)) for each in settings.via)


def _entry(settings: ServiceSettings, node: Node) -> Entry:
    match settings:
        case EtcdRegistrationSettings():
            return EtcdEntry(settings, node)
        case ConsulRegistrationSettings():
            return ConsulEntry(settings, node)
        case _ as never:
            assert_never(never)
