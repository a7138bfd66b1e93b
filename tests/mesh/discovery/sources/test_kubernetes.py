import base64
from collections.abc import AsyncIterator
from contextlib import aclosing
from pathlib import Path
from typing import Any

import pytest
import trustme
import yaml

from integration.peers.kubernetes_api import KubernetesApi, kubernetes_api, pod, ports
from mesh.discovery.kubernetes_client import in_cluster, of_kubeconfig
from mesh.discovery.sources.kubernetes import KubernetesSettings, KubernetesSource, nodes_of
from mesh.errors import MeshError
from mesh.node import Node
from tests.mesh.discovery.etcd import ids, until

BOTH = ports(grpc=8500, http=8501, publish=9903)


@pytest.fixture
async def api() -> AsyncIterator[KubernetesApi]:
    async with kubernetes_api() as api:
        yield api


def settings(**fields: object) -> KubernetesSettings:
    basic = {"kind": "kubernetes", "service": "models", "grpc": "grpc", "rest": 8501, "watch_seconds": 1, "timeout": 2}
    return KubernetesSettings.model_validate({**basic, **fields})


def kubeconfig(folder: Path, server: str, user: dict[str, Any], **cluster: Any) -> Path:
    file = folder / "kubeconfig"
    document = {
        "current-context": "here",
        "contexts": [{"name": "here", "context": {"cluster": "c", "user": "u", "namespace": "ml"}}],
        "clusters": [{"name": "c", "cluster": {"server": server, **cluster}}],
        "users": [{"name": "u", "user": user}],
    }
    file.write_text(yaml.safe_dump(document))
    return file


def source(api: KubernetesApi, folder: Path, **fields: object) -> KubernetesSource:
    api.token = "secret-of-the-test"
    (folder / "token").write_text("secret-of-the-test\n")
    file = kubeconfig(folder, api.url, {"tokenFile": "token"})
    return KubernetesSource(settings(kubeconfig=str(file), **fields))


async def test_pods_are_listed_by_pages_join_and_leave(api: KubernetesApi, tmp_path: Path) -> None:
    for number in range(1, 8):
        await api.put(
            f"s{number}", "models", addressType="IPv4", ports=BOTH, endpoints=[pod(f"p{number}", f"10.0.0.{number}")]
        )
    await api.put("other", "clients", addressType="IPv4", ports=BOTH, endpoints=[pod("client", "10.9.9.9")])
    async with aclosing(source(api, tmp_path).snapshots()) as snapshots:
        first = await anext(snapshots)
        assert ids(first) == [f"p{number}" for number in range(1, 8)]
        assert first.nodes[0] == Node("p1", "10.0.0.1:8500", "10.0.0.1:8501")
        assert api.lists == 3
        await api.put("s8", "models", addressType="IPv4", ports=BOTH, endpoints=[pod("p8", "10.0.0.8")])
        await until(snapshots, lambda found: "p8" in ids(found))
        await api.put("s8", "models", addressType="IPv4", ports=BOTH, endpoints=[])
        await until(snapshots, lambda found: "p8" not in ids(found))
        await api.delete("s1")
        await until(snapshots, lambda found: "p1" not in ids(found))
        assert api.lists == 3


async def test_a_watch_that_ends_is_resumed_where_a_bookmark_left_it(api: KubernetesApi, tmp_path: Path) -> None:
    async with aclosing(source(api, tmp_path).snapshots()) as snapshots:
        await anext(snapshots)
        for _ in range(5):  # of a Service that is none of ours: only bookmarks tell of these versions
            await api.put("other", "clients", addressType="IPv4", ports=BOTH, endpoints=[])
        await until(snapshots, lambda _: len(api.watches) == 1)
        await until(snapshots, lambda _: len(api.watches) == 2)
        assert api.watches[1] == api.watches[0] + 5
        api.compact()
        await api.put("s", "models", addressType="IPv4", ports=BOTH, endpoints=[pod("a", "10.0.0.1")])
        await until(snapshots, lambda found: ids(found) == ["a"])
        assert api.lists == 1


async def test_a_watch_that_has_expired_fails_and_the_next_start_is_whole(api: KubernetesApi, tmp_path: Path) -> None:
    chosen = source(api, tmp_path)
    async with aclosing(chosen.snapshots()) as snapshots:
        await anext(snapshots)
        # Between the list and the watch.
        await api.put("s", "models", addressType="IPv4", ports=BOTH, endpoints=[pod("a", "10.0.0.1")])
        api.compact()
        with pytest.raises(MeshError, match="expired"):
            await until(snapshots, lambda _: False)
    async with aclosing(chosen.snapshots()) as snapshots:
        assert ids(await anext(snapshots)) == ["a"]


async def test_a_server_that_hangs_is_noticed(api: KubernetesApi, tmp_path: Path) -> None:
    async with aclosing(source(api, tmp_path, timeout=1.5).snapshots()) as snapshots:
        await anext(snapshots)
        api.hangs = True
        with pytest.raises(MeshError, match="silent"):
            await until(snapshots, lambda _: False)


async def test_a_wrong_token_is_an_error_that_does_not_show_it(api: KubernetesApi, tmp_path: Path) -> None:
    chosen = source(api, tmp_path)
    (tmp_path / "token").write_text("evil")
    with pytest.raises(MeshError) as refused:
        await anext(chosen.snapshots())
    assert "401" in str(refused.value)
    assert "evil" not in str(refused.value)


def one(endpoints: list[Any], address_type: str = "IPv4", **fields: object) -> list[Node]:
    item = {"addressType": address_type, "ports": BOTH, "endpoints": endpoints}
    return list(nodes_of({"s": item}, settings(**fields)).nodes)


def test_who_is_ready_and_who_still_serves() -> None:
    ready, unknown = pod("ready", "10.0.0.1", ready=True), {**pod("unknown", "10.0.0.2"), "conditions": {}}
    starting = pod("starting", "10.0.0.3", ready=False, serving=False, terminating=False)
    leaving = pod("leaving", "10.0.0.4", ready=False, serving=True, terminating=True)
    gone = pod("gone", "10.0.0.5", ready=False, serving=False, terminating=True)
    everyone = [ready, unknown, starting, leaving, gone]
    assert [node.id for node in one(everyone)] == ["ready", "unknown"]
    # It tells its edges that it leaves: they load its models elsewhere first.
    assert [node.id for node in one(everyone, residency="publish")] == ["ready", "unknown", "leaving"]


def test_a_pod_of_both_families_is_one_node_and_zones_are_taken_over() -> None:
    four = {"addressType": "IPv4", "ports": BOTH, "endpoints": [{**pod("a", "10.0.0.1"), "zone": "az-1"}]}
    six = {"addressType": "IPv6", "ports": BOTH, "endpoints": [pod("a", "fd00::1"), pod("b", "fd00::2")]}
    slices = {"x6": six, "x4": four}
    assert nodes_of(slices, settings()).nodes == (
        Node("a", "10.0.0.1:8500", "10.0.0.1:8501", "az-1"), Node("b", "[fd00::2]:8500", "[fd00::2]:8501"),
    )  # fmt: skip
    assert nodes_of(slices, settings(family="ipv6")).nodes[0].grpc == "[fd00::1]:8500"


@pytest.mark.parametrize(
    "endpoint",
    [None, 3, {}, {"addresses": []}, pod("a", "models.test"), pod("../a", "10.0.0.1"), {"addresses": [["x"]]}],
)
def test_what_makes_no_node_is_left_out(endpoint: Any) -> None:
    item = {"addressType": "IPv4", "ports": BOTH, "endpoints": [endpoint]}
    good = {"addressType": "IPv4", "ports": BOTH, "endpoints": [pod("good", "10.0.0.2")]}
    found = nodes_of({"bad": item, "good": good}, settings())
    assert ids(found) == ["good"]
    assert len(found.conflicts) == 1


def test_inside_a_pod_it_is_its_service_account(tmp_path: Path) -> None:
    authority = trustme.CA()
    authority.cert_pem.write_to_path(tmp_path / "ca.crt")
    (tmp_path / "token").write_text("of-the-account\n")
    (tmp_path / "namespace").write_text("ml")
    access = in_cluster({"KUBERNETES_SERVICE_HOST": "fd00::1", "KUBERNETES_SERVICE_PORT": "443"}, tmp_path)
    assert (access.base, access.namespace) == ("https://[fd00::1]:443", "ml")
    assert access.headers["Authorization"] == "Bearer of-the-account"
    assert "of-the-account" not in repr(access)
    with pytest.raises(MeshError, match="no pod"):
        in_cluster({}, tmp_path)


def test_a_kubeconfig_with_certificates_in_it(tmp_path: Path) -> None:
    authority = trustme.CA()
    ours = authority.issue_cert("client.test")

    def data(pem: trustme.Blob) -> str:
        return base64.b64encode(pem.bytes()).decode()

    user = {
        "client-certificate-data": data(ours.cert_chain_pems[0]), "client-key-data": data(ours.private_key_pem),
    }  # fmt: skip
    cluster = {"certificate-authority-data": data(authority.cert_pem)}
    access = of_kubeconfig(kubeconfig(tmp_path, "https://k8s.test:6443", user, **cluster), None)
    assert access.tls is not None
    assert access.namespace == "ml"
    with pytest.raises(MeshError, match="no kubeconfig with the context elsewhere"):
        of_kubeconfig(tmp_path / "kubeconfig", "elsewhere")


@pytest.mark.parametrize(
    ("user", "cluster", "says"),
    [
        ({"exec": {"command": "aws"}}, {}, "exec of a user is not supported"),
        ({"token": "a\nb"}, {}, "no printable ASCII"),
        ({}, {"insecure-skip-tls-verify": True}, "insecure-skip-tls-verify"),
        ({}, {"certificate-authority-data": "!"}, "not PEM in base64"),
        ({}, {"certificate-authority": "nowhere.pem"}, "certificates for Kubernetes cannot be used"),
    ],
)
def test_a_kubeconfig_that_cannot_be_used(
    user: dict[str, Any], cluster: dict[str, Any], says: str, tmp_path: Path
) -> None:
    with pytest.raises(MeshError, match=says):
        of_kubeconfig(kubeconfig(tmp_path, "https://k8s.test", user, **cluster), None)
