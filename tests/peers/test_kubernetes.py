"""The Kubernetes source against a real kube-apiserver over a real etcd."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import aclosing
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
import pytest_asyncio

from integration.peers.etcd import Etcd
from integration.peers.kube_apiserver import SLICES, KubeApiserver
from integration.peers.kubernetes_api import pod, ports
from integration.peers.ways import shipped_account
from mesh.discovery.registry import Registry
from mesh.discovery.sources.kubernetes import KubernetesSettings, KubernetesSource
from mesh.errors import MeshError
from mesh.node import Node
from tests.certificates import Authority
from tests.mesh.discovery.etcd import PATIENCE, ids, until
from tests.mesh.routing import population as fresh
from tests.peers.conftest import api_server
from tests.peers.following import following

BOTH = ports(grpc=8500, http=8501)
RULES = [{"apiGroups": ["discovery.k8s.io"], "resources": ["endpointslices"], "verbs": ["list", "watch"]}]


async def account(api: KubeApiserver, name: str) -> Path:
    """A kubeconfig of a service account that may list and watch EndpointSlices: who asks is seen in the audit log."""
    group = {"apiVersion": "rbac.authorization.k8s.io/v1"}
    metadata = {"name": name, "namespace": "ml"}
    await api.apply(
        {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": metadata},
        {**group, "kind": "Role", "metadata": metadata, "rules": RULES},
        {
            **group, "kind": "RoleBinding", "metadata": metadata,
            "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": name},
            "subjects": [{"kind": "ServiceAccount", "name": name, "namespace": "ml"}],
        },
    )  # fmt: skip
    token = api.folder / f"{name}.token"
    token.write_text(await api.account_token(name))
    return api.write_kubeconfig(name, {"tokenFile": str(token)})


def source(kubeconfig: Path, **fields: Any) -> KubernetesSource:
    basic = {"kind": "kubernetes", "service": "models", "grpc": "grpc", "rest": "http", "kubeconfig": kubeconfig}
    return KubernetesSource(KubernetesSettings.model_validate({**basic, **fields}))


def asked(api: KubeApiserver, name: str, verb: str) -> list[dict[str, str]]:
    """The parameters of every such call of that account."""
    events = [event for event in api.audited(f"system:serviceaccount:ml:{name}") if event["verb"] == verb]
    return [
        {key: values[0] for key, values in parse_qs(urlsplit(event["requestURI"]).query).items()} for event in events
    ]


async def test_slices_are_listed_watched_changed_and_deleted(emptied: KubeApiserver) -> None:
    api = emptied
    await api.put("s1", "models", addressType="IPv4", ports=BOTH, endpoints=[{**pod("a", "10.0.0.1"), "zone": "az-1"}])
    await api.put("other", "clients", addressType="IPv4", ports=BOTH, endpoints=[pod("client", "10.9.9.9")])
    await api.put("s6", "models", addressType="IPv6", ports=BOTH, endpoints=[pod("b", "fd00::2")])
    async with aclosing(source(await account(api, "lists")).snapshots()) as snapshots:
        assert (await anext(snapshots)).nodes == (
            Node("a", "10.0.0.1:8500", "10.0.0.1:8501", "az-1"), Node("b", "[fd00::2]:8500", "[fd00::2]:8501"),
        )  # fmt: skip
        await api.put("s2", "models", addressType="IPv4", ports=BOTH, endpoints=[pod("c", "10.0.0.3")])
        await until(snapshots, lambda found: sorted(ids(found)) == ["a", "b", "c"])
        not_ready = pod("c", "10.0.0.3", ready=False)
        await api.put("s2", "models", addressType="IPv4", ports=BOTH, endpoints=[not_ready])
        await until(snapshots, lambda found: sorted(ids(found)) == ["a", "b"])
        await api.delete("s1")
        await until(snapshots, lambda found: ids(found) == ["b"])


async def test_many_slices_are_listed_by_pages(emptied: KubeApiserver) -> None:
    api = emptied
    kubeconfig = await account(api, "pages")
    one = {"addressType": "IPv4", "ports": BOTH, "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice"}
    labels = {"kubernetes.io/service-name": "models"}
    await api.apply(
        *(
            {**one, "metadata": {"name": f"s{n}", "namespace": "ml", "labels": labels},
             "endpoints": [pod(f"p{n}", f"10.0.{n // 250}.{n % 250 + 1}")]}
            for n in range(520)
        )
    )  # fmt: skip
    async with aclosing(source(kubeconfig).snapshots()) as snapshots:
        assert len((await anext(snapshots)).nodes) == 520
    lists = asked(api, "pages", "list")
    assert ["continue" in each for each in lists] == [False, True]


async def test_a_watch_that_expires_is_resumed_where_a_bookmark_left_it(emptied: KubeApiserver) -> None:
    api = emptied
    # The server sends a bookmark two seconds before a watch ends.
    async with aclosing(source(await account(api, "watches"), watch_seconds=4).snapshots()) as snapshots:
        await anext(snapshots)

        async def others() -> None:
            """Of a Service that is none of ours: only bookmarks tell of these versions."""
            await eventually(lambda: len(asked(api, "watches", "watch")) == 1)
            for turn in range(3):
                endpoints = [pod(f"c{turn}", "10.9.9.9")]
                await api.put("other", "clients", addressType="IPv4", ports=BOTH, endpoints=endpoints)

        changes = asyncio.create_task(others())
        await until(snapshots, lambda _: len(asked(api, "watches", "watch")) == 2)
        await changes
        first, second = (int(each["resourceVersion"]) for each in asked(api, "watches", "watch"))
        assert second >= first + 3
        await api.put("s1", "models", addressType="IPv4", ports=BOTH, endpoints=[pod("a", "10.0.0.1")])
        await until(snapshots, lambda found: ids(found) == ["a"])
        assert len(asked(api, "watches", "list")) == 1


async def test_a_wrong_token_and_one_that_was_rotated(emptied: KubeApiserver, tmp_path: Path) -> None:
    api = emptied
    await account(api, "rotates")
    token = tmp_path / "token"
    token.write_text("evil")
    chosen = source(api.write_kubeconfig("rotates", {"tokenFile": str(token)}), watch_seconds=1)
    with pytest.raises(MeshError) as refused:
        await anext(chosen.snapshots())
    assert "status 401: 'Unauthorized'" in str(refused.value)
    assert "evil" not in str(refused.value)
    token.write_text(await api.account_token("rotates"))
    async with aclosing(chosen.snapshots()) as snapshots:
        await anext(snapshots)
        token.write_text("evil")  # as if it had been revoked: the next watch shows the file's new content
        with pytest.raises(MeshError, match="401"):
            await until(snapshots, lambda _: False)


async def test_certificates_of_users(emptied: KubeApiserver, authority: Authority) -> None:
    api = emptied
    await api.put("s1", "models", addressType="IPv4", ports=BOTH, endpoints=[pod("a", "10.0.0.1")])

    def user(**about: Any) -> KubernetesSource:
        pair = authority.issue("edge.test", user="edge", **about)
        names = {"client-certificate": str(pair.certificate), "client-key": str(pair.key)}
        return source(api.write_kubeconfig("certificate", names))

    async with aclosing(user(group="system:masters").snapshots()) as snapshots:
        assert ids(await anext(snapshots)) == ["a"]
    with pytest.raises(MeshError, match=r"403.*cannot list resource"):
        await anext(user().snapshots())
    with pytest.raises(MeshError, match="401"):
        await anext(user(group="system:masters", expired=True).snapshots())


@pytest_asyncio.fixture(loop_scope="session")
async def without_memory(
    etcd: Etcd, authority: Authority, tmp_path: Path, api: KubeApiserver
) -> AsyncIterator[KubeApiserver]:
    """A second server over the same etcd: what it is asked of slices it asks etcd, which forgets."""
    async with api_server(tmp_path, etcd, authority, cached=False) as server:
        yield server


async def test_what_etcd_has_forgotten_and_a_certificate_that_expires_take_no_node_away(
    etcd: Etcd, without_memory: KubeApiserver, authority: Authority
) -> None:
    api = without_memory
    await api.call("DELETE", SLICES)
    await api.put("s1", "models", addressType="IPv4", ports=BOTH, endpoints=[pod("a", "10.0.0.1")])
    chosen = source(api.kubeconfig, watch_seconds=1)
    async with aclosing(chosen.snapshots()) as snapshots:
        await anext(snapshots)
        await forget(etcd, api)
        with pytest.raises(MeshError, match="expired"):  # 410
            await until(snapshots, lambda _: False)

    router = fresh.router()
    async with following(Registry({"kubernetes": chosen}, router)) as registry:
        assert [node.id for node in router.nodes] == ["a"]
        await forget(etcd, api)
        await eventually(lambda: "expired" in str(registry.states()[0].cause))
        assert [node.id for node in router.nodes] == ["a"]
        await eventually(lambda: registry.states()[0].down is None)

        assert api.tls is not None
        expired = authority.issue("127.0.0.1", expired=True)
        api.tls.key.write_bytes(expired.key.read_bytes())
        api.tls.certificate.write_bytes(expired.certificate.read_bytes())
        await api.process.stop()
        await api.process.start(_at_once)
        await eventually(lambda: "certificate has expired" in str(registry.states()[0].cause))
        assert [node.id for node in router.nodes] == ["a"]
        assert registry.states()[0].nodes == 1


async def forget(etcd: Etcd, api: KubeApiserver) -> None:
    """What happened until now cannot be watched any more. The last version before a compaction still can."""
    for turn in range(3):
        await api.put("other", "clients", addressType="IPv4", ports=BOTH, endpoints=[pod(f"c{turn}", "10.9.9.9")])
    await etcd.compact()


async def _at_once() -> bool:
    return True


async def eventually(what: Callable[[], bool]) -> None:
    async with asyncio.timeout(2 * PATIENCE):
        while not what():
            await asyncio.sleep(0.1)


async def test_the_shipped_account_may_do_what_the_source_needs_and_nothing_else(emptied: KubeApiserver) -> None:
    api = emptied
    kubeconfig, token = await shipped_account(api)
    await api.put("s1", "models", addressType="IPv4", ports=BOTH, endpoints=[pod("a", "10.0.0.1")])
    async with aclosing(source(kubeconfig).snapshots()) as snapshots:
        assert ids(await anext(snapshots)) == ["a"]
        await api.delete("s1")
        await until(snapshots, lambda found: ids(found) == [])

    async def status(method: str, path: str, body: Any = None) -> int:
        return (await api.call(method, path, body, token=token))[0]

    assert await status("GET", SLICES) == 200
    refused = [
        ("GET", f"{SLICES}/s1"), ("POST", SLICES), ("DELETE", SLICES), ("DELETE", f"{SLICES}/s1"),
        ("GET", "/apis/discovery.k8s.io/v1/endpointslices"), ("GET", SLICES.replace("/ml/", "/elsewhere/")),
        ("GET", "/api/v1/namespaces/ml/pods"), ("GET", "/api/v1/namespaces/ml/secrets"), ("GET", "/api/v1/nodes"),
        ("GET", "/api/v1/namespaces/ml/configmaps"), ("GET", "/api/v1/namespaces/ml/services"),
    ]  # fmt: skip
    body = {"apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "metadata": {"name": "x"}}
    got = {(method, path): await status(method, path, body if method == "POST" else None) for method, path in refused}
    assert got == dict.fromkeys(refused, 403)

    review = {"apiVersion": "authorization.k8s.io/v1", "kind": "SelfSubjectRulesReview", "spec": {"namespace": "ml"}}
    told, document = await api.call(
        "POST", "/apis/authorization.k8s.io/v1/selfsubjectrulesreviews", review, token=token
    )
    assert told == 201
    about_itself = {"authorization.k8s.io", "authentication.k8s.io"}  # what everybody may ask
    rules = [rule for rule in document["status"]["resourceRules"] if not about_itself & set(rule["apiGroups"])]
    assert [(rule["verbs"], rule["apiGroups"], rule["resources"]) for rule in rules] == [
        (["list", "watch"], ["discovery.k8s.io"], ["endpointslices"])
    ]
