import asyncio
from contextlib import aclosing

import pytest
from pydantic import TypeAdapter, ValidationError

from integration.peers.dns_server import dns_server
from integration.virtual_time import run
from mesh.discovery.merge import NodeSet
from mesh.discovery.sources.dns import DnsSettings, DnsSource, NoSuchNameError, Records, RecordType
from mesh.errors import MeshError
from mesh.node import Node


def settings(**fields: object) -> DnsSettings:
    return DnsSettings.model_validate({"kind": "dns", **fields})


BY_NAME = {"name": "models.test", "ports": {"grpc": 8500, "rest": 8501, "residency": 9903}, "zone": "west"}
BY_SRV = {"srv": {"grpc": "_grpc._tcp.models.test", "rest": "_rest._tcp.models.test"}}


class Zone:
    """Records in a dictionary; an error in place of records is raised. Notes when it was asked."""

    def __init__(self, **records: Records | MeshError) -> None:
        self.records = records
        self.asked: list[float] = []

    async def look_up(self, name: str, kind: RecordType) -> Records:
        self.asked.append(asyncio.get_running_loop().time())
        found = self.records.get(f"{kind}_{name.split('.')[0]}", Records((), None))
        if isinstance(found, MeshError):
            raise found
        return found


def first(chosen: DnsSettings, zone: Zone) -> NodeSet:
    async def main() -> NodeSet:
        async with aclosing(DnsSource(chosen, zone.look_up).snapshots()) as snapshots:
            return await anext(snapshots)

    return run(main())


def a(*addresses: str, ttl: float = 5.0) -> Records:
    return Records(tuple((address, 0) for address in addresses), ttl)


def test_every_address_of_a_name_is_a_node() -> None:
    found = first(settings(**BY_NAME), Zone(A_models=a("10.0.0.2", "10.0.0.1")))
    assert found.conflicts == ()
    assert found.nodes == tuple(
        Node(f"10.0.0.{n}", f"10.0.0.{n}:8500", f"10.0.0.{n}:8501", "west", residency=f"10.0.0.{n}:9903")
        for n in (1, 2)
    )


@pytest.mark.parametrize(
    ("family", "ids"),
    [("any", ["10.0.0.1"]), ("ipv4", ["10.0.0.1"]), ("ipv6", ["fd00-0-0-0-0-0-0-3"])],
)
def test_a_name_with_addresses_of_both_kinds_is_not_two_nodes(family: str, ids: list[str]) -> None:
    zone = Zone(A_models=a("10.0.0.1"), AAAA_models=a("fd00::3"))
    assert [node.id for node in first(settings(**BY_NAME, family=family), zone).nodes] == ids


def test_a_name_with_ipv6_alone_is_found() -> None:
    (found,) = first(settings(**BY_NAME), Zone(AAAA_models=a("fd00:0:0::3"))).nodes
    assert (found.grpc, found.rest) == ("[fd00::3]:8500", "[fd00::3]:8501")


def test_a_target_of_srv_records_is_a_node_with_the_ports_of_all_of_them() -> None:
    zone = Zone(
        SRV__grpc=Records((("A.models.test.", 8500), ("b.models.test.", 9500)), 30.0),
        SRV__rest=Records((("a.models.test.", 8501),), 30.0),
        A_a=a("10.0.0.1"),
        AAAA_b=a("fd00::2"),
    )
    assert first(settings(**BY_SRV), zone).nodes == (
        Node("a.models.test", "10.0.0.1:8500", "10.0.0.1:8501"),
        Node("b.models.test", "[fd00::2]:9500"),
    )


def test_a_target_that_does_not_exist_is_left_out_but_a_server_that_is_away_says_nothing_about_anyone() -> None:
    srv = Records((("a.models.test.", 8500), ("b.models.test.", 8500)), 30.0)
    found = first(settings(**BY_SRV), Zone(SRV__grpc=srv, A_a=a("10.0.0.1"), A_b=NoSuchNameError("b: none")))
    assert [node.id for node in found.nodes] == ["a.models.test"]
    assert found.conflicts == ("'b.models.test': b: none",)
    with pytest.raises(MeshError, match="timed out"):
        first(settings(**BY_SRV), Zone(SRV__grpc=srv, A_a=a("10.0.0.1"), A_b=MeshError("timed out")))


def test_a_hostile_address_is_left_out() -> None:
    found = first(settings(**BY_NAME), Zone(A_models=a("0.0.0.0", "224.0.0.1", "10.0.0.1")))
    assert [node.id for node in found.nodes] == ["10.0.0.1"]
    assert len(found.conflicts) == 2


@pytest.mark.parametrize(("ttl", "gap"), [(0.0, 1.0), (5.0, 5.0), (86400.0, 30.0), (None, 1.0)])
def test_it_asks_again_when_the_answer_is_too_old(ttl: float | None, gap: float) -> None:
    zone = Zone(A_models=Records((("10.0.0.1", 0),), ttl))

    async def main() -> None:
        async with aclosing(DnsSource(settings(**BY_NAME, family="ipv4"), zone.look_up).snapshots()) as snapshots:
            for _ in range(3):
                await anext(snapshots)

    run(main())
    assert zone.asked == pytest.approx([0.0, gap, 2 * gap])


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ({}, "either `name` and `ports`, or `srv`"),
        ({"name": "models.test"}, "either `name` and `ports`, or `srv`"),
        ({**BY_NAME, **BY_SRV}, "either `name` and `ports`, or `srv`"),
        ({"srv": {"residency": "x.test"}}, "neither a grpc nor a rest name"),
        ({"name": "models.test", "ports": {"residency": 1}}, "neither a grpc nor a rest port"),
        ({"name": "mo dels", "ports": {"grpc": 1}}, "name"),
        ({**BY_NAME, "least_seconds": 60}, "most_seconds is less than least_seconds"),
        ({**BY_NAME, "servers": ["dns.test:53"]}, "not an IP address"),
    ],
)
def test_settings_that_make_no_sense_are_refused(wrong: dict[str, object], says: str) -> None:
    with pytest.raises(ValidationError, match=says):
        TypeAdapter(DnsSettings).validate_python({"kind": "dns", **wrong})


async def test_against_a_real_server_joins_leaves_and_lost_names() -> None:
    async with dns_server() as server:
        server.table = {("models.test.", "A"): ["10.0.0.1"]}
        chosen = settings(**BY_NAME, servers=[server.address], least_seconds=0.1, timeout=2)
        async with aclosing(DnsSource(chosen).snapshots()) as snapshots:
            assert [node.id for node in (await anext(snapshots)).nodes] == ["10.0.0.1"]
            server.table = {("models.test.", "A"): ["10.0.0.1", "10.0.0.2"]}
            assert [node.id for node in (await anext(snapshots)).nodes] == ["10.0.0.1", "10.0.0.2"]
            server.table = {("models.test.", "TXT"): ["x"]}
            assert (await anext(snapshots)).nodes == ()
            server.table = {}
            with pytest.raises(NoSuchNameError):
                await anext(snapshots)


async def test_a_real_server_that_is_silent_is_given_up_and_srv_and_ipv6_work() -> None:
    async with dns_server() as server:
        server.table = {
            ("_grpc._tcp.models.test.", "SRV"): ["10 5 8500 a.models.test."],
            ("a.models.test.", "AAAA"): ["fd00::1"],
        }
        srv = {"srv": {"grpc": "_grpc._tcp.models.test"}}
        async with aclosing(DnsSource(settings(**srv, servers=[server.address])).snapshots()) as snapshots:
            assert (await anext(snapshots)).nodes == (Node("a.models.test", "[fd00::1]:8500"),)
        server.silent = True
        chosen = settings(**BY_NAME, servers=[server.address], timeout=0.3)
        with pytest.raises(MeshError, match="LifetimeTimeout"):
            await anext(DnsSource(chosen).snapshots())
