"""The DNS source: the nodes are the addresses of a name, or the targets of SRV records.

It asks again when the answer's time to live ends. dnspython is imported when it is first used: only those who
discover by DNS pay for it.
"""

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable
from dataclasses import dataclass
from typing import Annotated, Literal, Self

from pydantic import Field, StringConstraints, model_validator

from mesh.address import parse_endpoint
from mesh.discovery.finds import Finds, id_of_address, joined
from mesh.discovery.merge import NodeSet
from mesh.discovery.ports import NodePorts
from mesh.discovery.settings import EndpointText
from mesh.errors import MeshError
from mesh.settings import Settings

DnsName = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_]([A-Za-z0-9._-]*[A-Za-z0-9_.])?$", max_length=253)]
Family = Literal["any", "ipv4", "ipv6"]
RecordType = Literal["A", "AAAA", "SRV"]

MOST_TARGETS = 1000
"""Of SRV records: each is looked up."""
_AT_ONCE = 16  # look-ups of targets


class SrvNames(Settings):
    """Names of SRV records, one for each port of a node. A target that stands in several is one node."""

    grpc: DnsName | None = Field(None, description="Of the gRPC APIs, such as _grpc._tcp.models.example.")
    rest: DnsName | None = Field(None, description="Of the REST APIs.")
    residency: DnsName | None = Field(None, description="Of `node.publish`.")


class DnsSettings(Settings):
    """Nodes by DNS: either `name` with `ports`, or `srv`."""

    kind: Literal["dns"]
    name: DnsName | None = Field(None, description="Every address of this name is a node, called by its address.")
    ports: NodePorts | None = Field(None, description="The ports of these nodes.")
    srv: SrvNames | None = Field(None, description="Every target of these records is a node, called by its name.")
    family: Family = Field("any", description="Which addresses; any: IPv4 where a name has some, otherwise IPv6.")
    zone: str = Field("", max_length=253, description="The zone of all of them.")
    servers: tuple[EndpointText, ...] = Field(
        (), max_length=8, description="ip:port of DNS servers. Empty: those of /etc/resolv.conf."
    )
    least_seconds: float = Field(1.0, ge=0.1, le=3600, description="Until it asks again, however short the TTL is.")
    most_seconds: float = Field(30.0, ge=0.1, le=3600, description="The same, however long the TTL is.")
    timeout: float = Field(3.0, gt=0, le=60, description="Seconds for one look-up, all servers together.")

    @model_validator(mode="after")
    def _one_way(self) -> Self:
        names = None if self.srv is None else (self.srv.grpc, self.srv.rest)
        if (self.name is None) is (names is None) or (self.name is None) is not (self.ports is None):
            raise ValueError("either `name` and `ports`, or `srv` alone is expected")
        if names == (None, None):
            raise ValueError("srv: neither a grpc nor a rest name is given")
        if self.most_seconds < self.least_seconds:
            raise ValueError("most_seconds is less than least_seconds")
        return self


@dataclass(frozen=True, slots=True)
class Records:
    """An answer: for A and AAAA (address, 0), for SRV (target, port). `ttl` in seconds; None for an empty answer."""

    values: tuple[tuple[str, int], ...]
    ttl: float | None


class NoSuchNameError(MeshError):
    """The servers say that there is no such name."""


LookUp = Callable[[str, RecordType], Awaitable[Records]]
"""Asks for the records of a name. A name that has none of them is an empty answer. One that does not exist is a
NoSuchNameError, a server that is away or refuses another MeshError: a lost zone must not look like a fleet that
was switched off."""


class DnsSource:
    """See `NodeSource`. `look_up` in place of dnspython is for tests in virtual time."""

    def __init__(self, settings: DnsSettings, look_up: LookUp | None = None) -> None:
        self._settings = settings
        self._look_up = look_up

    async def snapshots(self) -> AsyncGenerator[NodeSet, None]:
        """See `NodeSource`."""
        settings, finds = self._settings, Finds()
        look_up = self._look_up
        if look_up is None:
            look_up = await asyncio.to_thread(_resolver, settings)
        while True:
            lookups = _LookUps(look_up)
            read = _by_address if settings.srv is None else _by_target
            yield await read(settings, lookups, finds)
            ttl = settings.least_seconds if lookups.ttl is None else lookups.ttl
            await asyncio.sleep(min(max(ttl, settings.least_seconds), settings.most_seconds))


class _LookUps:
    """Look-ups for one snapshot, and the shortest time for which one of their answers holds."""

    def __init__(self, look_up: LookUp) -> None:
        self._look_up = look_up
        self._turn = asyncio.Semaphore(_AT_ONCE)
        self.ttl: float | None = None

    async def records(self, name: str, kind: RecordType) -> tuple[tuple[str, int], ...]:
        async with self._turn:
            found = await self._look_up(name, kind)
        if found.ttl is not None:
            self.ttl = found.ttl if self.ttl is None else min(self.ttl, found.ttl)
        return found.values

    async def addresses(self, name: str, family: Family) -> list[str]:
        """In order. A target of an SRV record may be an address in some servers' answers: it stays as it is."""
        found: tuple[tuple[str, int], ...] = ()
        if family != "ipv6":
            found = await self.records(name, "A")
        if family == "ipv6" or (family == "any" and not found):
            found = await self.records(name, "AAAA")
        return sorted(address for address, _ in found)


async def _by_address(settings: DnsSettings, lookups: _LookUps, finds: Finds) -> NodeSet:
    assert settings.name is not None
    assert settings.ports is not None
    for ip in await lookups.addresses(settings.name, settings.family):
        finds.add({"id": id_of_address(ip), "zone": settings.zone, **settings.ports.at(ip)})
    return finds.node_set()


async def _by_target(settings: DnsSettings, lookups: _LookUps, finds: Finds) -> NodeSet:
    assert settings.srv is not None
    ports: dict[str, dict[str, int]] = {}
    for protocol, name in settings.srv:
        if name is not None:
            for target, port in await lookups.records(name, "SRV"):
                ports.setdefault(target.rstrip(".").lower(), {}).setdefault(protocol, port)
    if len(ports) > MOST_TARGETS:
        raise MeshError(f"The SRV records name {len(ports)} targets, over the limit of {MOST_TARGETS}.")
    targets = sorted(ports)
    async with asyncio.TaskGroup() as tasks:
        looking = {target: tasks.create_task(_addresses(target, settings, lookups)) for target in targets}
    for target, task in looking.items():
        found = task.result()
        if isinstance(found, NoSuchNameError):
            finds.refuse(target, str(found))
        elif isinstance(found, MeshError):
            raise found
        elif not found:
            finds.refuse(target, "the target has no address")
        else:
            endpoints = {protocol: joined(found[0], port) for protocol, port in ports[target].items()}
            finds.add({"id": target, "zone": settings.zone, **endpoints})
    return finds.node_set()


async def _addresses(target: str, settings: DnsSettings, lookups: _LookUps) -> list[str] | MeshError:
    """Of one target. That it does not exist is its own fault: the other targets are nodes all the same."""
    try:
        return await lookups.addresses(target, settings.family)
    except MeshError as error:
        return error


def _resolver(settings: DnsSettings) -> LookUp:
    """Looks up by dnspython, over UDP, and over TCP where an answer does not fit."""
    import dns.asyncresolver
    import dns.exception
    import dns.nameserver
    import dns.resolver

    try:
        resolver = dns.asyncresolver.Resolver(configure=not settings.servers)
    except (dns.exception.DNSException, OSError) as error:
        raise MeshError(f"The configuration of DNS on this machine cannot be read: {type(error).__name__}") from None
    resolver.cache = None
    if settings.servers:
        servers = map(parse_endpoint, settings.servers)
        resolver.nameservers = [dns.nameserver.Do53Nameserver(server.host, server.port) for server in servers]

    async def look_up(name: str, kind: RecordType) -> Records:
        try:
            answer = await resolver.resolve(name, kind, lifetime=settings.timeout, raise_on_no_answer=False)
        except dns.resolver.NXDOMAIN:
            raise NoSuchNameError(f"{name}: there is no such name") from None
        except (dns.exception.DNSException, OSError) as error:
            raise MeshError(f"{name} ({kind}): {type(error).__name__}") from None
        if answer.rrset is None:
            return Records((), None)
        if kind == "SRV":
            values = tuple((str(record.target), int(record.port)) for record in answer.rrset)
        else:
            values = tuple((str(record.address), 0) for record in answer.rrset)
        return Records(values, float(answer.rrset.ttl))

    return look_up
