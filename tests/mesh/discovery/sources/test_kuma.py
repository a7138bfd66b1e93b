import json
from contextlib import aclosing
from pathlib import Path
from typing import Any

import pytest

from integration.peers.kuma_overview import Overview, dataplane, overview, service
from mesh.discovery.sources.kuma import KumaSettings, KumaSource, nodes_of
from mesh.errors import MeshError
from mesh.node import Node
from tests.mesh.discovery.etcd import ids, until

SAMPLES = Path(__file__).parent / "kuma"


def settings(url: str = "http://127.0.0.1:5681", **fields: object) -> KumaSettings:
    basic = {"kind": "kuma", "url": url, "labels": {"app": "models"}, "grpc": "grpc", "rest": "http"}
    return KumaSettings.model_validate({**basic, "poll_seconds": 0.1, **fields})


def items(name: str) -> list[Any]:
    found: list[Any] = json.loads((SAMPLES / name).read_text())["items"]
    return found


@pytest.mark.parametrize("name", ["2.13-legacy-mtls", "2.14-legacy-mtls", "3.0-kri-mtls"])
def test_what_real_control_planes_say_of_universal_dataplanes(name: str) -> None:
    found = nodes_of(items(f"overview-{name}.json"), settings())
    assert found.conflicts == ()
    assert found.nodes == tuple(
        Node(f"node-{letter}", f"127.0.1.{place}:8500", f"127.0.1.{place}:8501", "default")
        for letter, place in (("a", 2), ("b", 3))
    )


def test_what_a_real_control_plane_says_on_kubernetes_where_one_proxy_was_never_there() -> None:
    chosen = settings(grpc=8500, rest=8501, residency=9903)
    found = nodes_of(items("overview-2.14-kubernetes.json"), chosen)
    assert found.nodes == (
        Node("models-0.ml", "127.0.1.32:8500", "127.0.1.32:8501", "default", residency="127.0.1.32:9903"),
    )


@pytest.mark.parametrize(
    "change",
    [
        {"state": "NotReady"},
        {"state": "Ignored"},
        {"health": {}},
        {"health": {"ready": False}},
    ],
)
def test_an_inbound_that_is_not_well_takes_no_calls(change: dict[str, Any]) -> None:
    item = dataplane("a", "10.0.0.1", {"grpc": 8500, "http": 8501}, app="models")
    item["dataplane"]["networking"]["inbound"][0].update(change)
    assert nodes_of([item], settings()).nodes == (Node("a", None, "10.0.0.1:8501"),)
    item["dataplane"]["networking"]["inbound"][1].update(change)
    assert nodes_of([item], settings()).nodes == ()


def test_a_proxy_that_is_not_connected_is_no_node() -> None:
    item = dataplane("a", "10.0.0.1", {"grpc": 8500}, app="models")
    item["dataplaneInsight"]["subscriptions"][0]["disconnectTime"] = "2026-11-22T04:00:00Z"
    assert nodes_of([item], settings()).nodes == ()


@pytest.mark.parametrize(
    "bad",
    [
        None, [], 7, {}, {"name": 3, "labels": {"app": "models"}},
        {"labels": {"app": "models"}, "dataplaneInsight": []},
        dataplane("a/../b", "10.0.0.1", {"grpc": 8500}, app="models"),
        dataplane("a", "models.test", {"grpc": 8500}, app="models"),
        dataplane("a", "10.0.0.1", {"grpc": 99999}, app="models"),
    ],
)  # fmt: skip
def test_what_makes_no_node_does_no_harm_to_the_others(bad: Any) -> None:
    good = dataplane("good", "fd00::1", {"grpc": 8500}, app="models")
    assert nodes_of([bad, good], settings()).nodes == (Node("good", "[fd00::1]:8500"),)


def fleet(plane: Overview, number: int) -> None:
    plane.items = [
        dataplane(f"n{place}", f"10.0.{place // 250}.{place % 250 + 1}", {"grpc": 8500}, app="models")
        for place in range(number)
    ]


async def test_all_pages_are_read_and_nodes_join_and_leave() -> None:
    async with overview() as plane:
        fleet(plane, 25)
        plane.items.append(dataplane("client", "10.9.9.9", {"grpc": 8500}, app="client"))
        async with aclosing(KumaSource(settings(plane.url, page=10)).snapshots()) as snapshots:
            assert len((await anext(snapshots)).nodes) == 25
            assert plane.pages == 3
            fleet(plane, 26)
            await until(snapshots, lambda found: "n25" in ids(found))
            fleet(plane, 2)
            assert ids(await until(snapshots, lambda found: len(found.nodes) == 2)) == ["n0", "n1"]


async def test_a_node_that_slips_from_page_to_page_is_not_missed() -> None:
    async with overview() as plane:
        fleet(plane, 30)

        def one_goes() -> None:
            if plane.pages == 2:
                del plane.items[0]

        plane.before_page = one_goes
        async with aclosing(KumaSource(settings(plane.url, page=10)).snapshots()) as snapshots:
            assert len((await anext(snapshots)).nodes) == 29


async def test_a_wrong_token_is_an_error_that_does_not_show_it_and_a_right_one_is_read_anew(tmp_path: Path) -> None:
    async with overview() as plane:
        fleet(plane, 1)
        plane.token = "good-token"
        file = tmp_path / "token"
        source = KumaSource(settings(plane.url, token_file=str(file)))
        with pytest.raises(MeshError, match="cannot be read"):
            await anext(source.snapshots())
        file.write_text("evil-token\n")
        with pytest.raises(MeshError) as refused:
            await anext(source.snapshots())
        assert "401" in str(refused.value)
        assert "evil" not in str(refused.value)
        file.write_text("good-token\n")
        async with aclosing(source.snapshots()) as snapshots:
            assert ids(await anext(snapshots)) == ["n0"]


async def test_a_control_plane_that_is_away_is_an_error() -> None:
    with pytest.raises(MeshError, match="Connection refused"):
        await anext(KumaSource(settings("http://127.0.0.1:9")).snapshots())


FAR = settings(other_zones={"tbms/node": "own"}, rest=8501)


def _service(name: str = "node-c", **changes: Any) -> dict[str, Any]:
    item = service(name, "zone-2", {"grpc": 8500, "http": 8501}, **{"tbms/node": "own"})
    item["spec"] |= changes.pop("spec", {})
    item["labels"] |= changes.pop("labels", {})
    return {**item, **changes}


def test_services_of_other_zones_are_nodes_that_a_header_reaches() -> None:
    only_grpc = _service("node-d", spec={"ports": [{"name": "grpc", "port": 8500}]})
    found = nodes_of([], FAR, [_service(), only_grpc])
    assert found.nodes == (
        Node("node-c", zone="zone-2", reached_by="header", speaks=frozenset({"grpc", "rest"})),
        Node("node-d", zone="zone-2", reached_by="header", speaks=frozenset({"grpc"})),
    )


@pytest.mark.parametrize(
    "change",
    [
        {"labels": {"kuma.io/origin": "zone"}},
        {"labels": {"tbms/node": "shared"}},
        {"spec": {"state": "Unavailable"}},
        {"spec": {"ports": [{"name": "admin", "port": 9000}]}},
    ],
)
def test_one_of_this_zone_of_another_kind_or_without_a_node_behind_it_is_none(change: dict[str, Any]) -> None:
    found = nodes_of([], FAR, [_service(**change)])
    assert (found.nodes, found.conflicts) == ((), ())


@pytest.mark.parametrize(
    "bad",
    [None, [], 7, {}, {"labels": 3}, _service(spec={"ports": 7}), _service(labels={"kuma.io/display-name": "a/b"})],
)
def test_what_is_no_service_does_no_harm_to_the_others(bad: Any) -> None:
    assert [node.id for node in nodes_of([], FAR, [bad, _service()]).nodes] == ["node-c"]


async def test_nodes_of_other_zones_come_and_go_with_their_services() -> None:
    async with overview() as plane:
        plane.items = [dataplane("a", "10.0.0.1", {"grpc": 8500}, app="models")]
        source = KumaSource(settings(plane.url, other_zones={"tbms/node": "own"}))
        async with aclosing(source.snapshots()) as snapshots:
            assert ids(await anext(snapshots)) == ["a"]
            plane.services = [_service("node-c"), _service("node-d", labels={"tbms/node": "shared"})]
            assert ids(await anext(snapshots)) == ["a", "node-c"]
            plane.services[0]["spec"]["state"] = "Unavailable"
            assert ids(await anext(snapshots)) == ["a"]
