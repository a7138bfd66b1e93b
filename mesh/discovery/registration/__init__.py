"""Registration: a node itself says that it is there, to a service that edges discover nodes by."""

from typing import Protocol

from pydantic import Field

from mesh.discovery.registration.etcd import EtcdRegistration, EtcdRegistrationSettings
from mesh.discovery.settings import NodeSettings


class RegistrationSettings(NodeSettings):
    """The `node.register` section: what edges are told of this node, and by what."""

    via: tuple[EtcdRegistrationSettings, ...] = Field(
        min_length=1, max_length=8, description="The services that it is told to."
    )


class Registration(Protocol):
    """Keeps the node known to one service."""

    async def run(self) -> None:
        """Until cancelled. Failures are logged and tried again."""
        ...

    async def withdraw(self) -> None:
        """Edges are to forget the node. To be called once `run` has ended; what fails is logged."""
        ...


def open_registrations(settings: RegistrationSettings) -> tuple[Registration, ...]:
    """One for each service. They do nothing yet."""
    return tuple(EtcdRegistration(each, settings.node()) for each in settings.via)
