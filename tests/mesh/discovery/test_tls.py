"""Services behind TLS that ask for a certificate: what is expired, or of a stranger, is told as such."""

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, aclosing, asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import yaml

from integration.peers.consul_agent import consul_agent
from integration.peers.etcd import Etcd, EtcdTls
from integration.peers.kubernetes_api import kubernetes_api, pod, ports
from mesh.discovery.node_source import NodeSource
from mesh.discovery.sources import open_source
from mesh.discovery.sources.consul import ConsulSettings
from mesh.discovery.sources.etcd import EtcdSettings
from mesh.discovery.sources.kubernetes import KubernetesSettings
from mesh.errors import MeshError
from tests.certificates import Authority, Pair
from tests.mesh.discovery.etcd import ids

Open = Callable[[Authority, Pair], NodeSource]
"""The source that trusts that authority and shows that certificate."""


@asynccontextmanager
async def consul(authority: Authority, expired: bool, _: Path) -> AsyncIterator[Open]:
    async with consul_agent(tls=authority.server(expired=expired)) as agent:
        await agent.put("a", "10.0.0.1", grpc="8500")

        def opened(trusted: Authority, ours: Pair) -> NodeSource:
            fields = {"kind": "consul", "url": agent.url, "service": "models", "tls": _tls(trusted, ours)}
            return open_source(ConsulSettings.model_validate(fields))

        yield opened


@asynccontextmanager
async def kubernetes(authority: Authority, expired: bool, folder: Path) -> AsyncIterator[Open]:
    async with kubernetes_api(tls=authority.server(expired=expired)) as api:
        await api.put("s", "models", addressType="IPv4", ports=ports(grpc=8500), endpoints=[pod("a", "10.0.0.1")])

        def opened(trusted: Authority, ours: Pair) -> NodeSource:
            user = {"client-certificate": str(ours.certificate), "client-key": str(ours.key)}
            document = {
                "current-context": "here",
                "contexts": [{"name": "here", "context": {"cluster": "c", "user": "u", "namespace": "ml"}}],
                "clusters": [{"name": "c", "cluster": {"server": api.url, "certificate-authority": str(trusted.ca)}}],
                "users": [{"name": "u", "user": user}],
            }
            (folder / "kubeconfig").write_text(yaml.safe_dump(document))
            fields = {"kind": "kubernetes", "service": "models", "grpc": "grpc"}
            return open_source(KubernetesSettings.model_validate({**fields, "kubeconfig": folder / "kubeconfig"}))

        yield opened


@asynccontextmanager
async def etcd(authority: Authority, expired: bool, folder: Path) -> AsyncIterator[Open]:
    theirs = authority.issue("127.0.0.1", expired=expired)
    try:
        server = Etcd(folder, EtcdTls(theirs.certificate, theirs.key, authority.ca))
    except FileNotFoundError as error:
        pytest.skip(str(error))
    async with server:

        def opened(trusted: Authority, ours: Pair) -> NodeSource:
            fields = {"kind": "etcd", "endpoints": [server.url], "tls": _tls(trusted, ours)}
            return open_source(EtcdSettings.model_validate(fields))

        yield opened


Service = Callable[[Authority, bool, Path], AbstractAsyncContextManager[Open]]
SERVICES = [consul, kubernetes, pytest.param(etcd, marks=pytest.mark.etcd)]


def _tls(trusted: Authority, ours: Pair) -> dict[str, Any]:
    return {"ca": str(trusted.ca), "certificate": str(ours.certificate), "key": str(ours.key)}


async def refusal(source: NodeSource) -> str:
    with pytest.raises(MeshError) as refused:
        async with aclosing(source.snapshots()) as snapshots:
            await anext(snapshots)
    return str(refused.value)


@pytest.mark.parametrize("service", SERVICES)
async def test_both_sides_show_certificates_and_those_of_ours_that_do_not_count_are_told(
    service: Service, tmp_path: Path
) -> None:
    authority, stranger = Authority(tmp_path), Authority(tmp_path, "stranger")
    async with service(authority, False, tmp_path) as opened:
        async with aclosing(opened(authority, authority.issue("edge.test")).snapshots()) as snapshots:
            found = await anext(snapshots)
        assert ids(found) == ([] if service is etcd else ["a"])
        # A server of asyncio hangs up without an alert; Go's says what is wrong.
        said = await refusal(opened(authority, authority.issue("edge.test", expired=True)))
        assert "TLS failed" in said if service is etcd else "ServerDisconnectedError" in said
        assert await refusal(opened(authority, stranger.issue("edge.test")))
        said = await refusal(opened(stranger, authority.issue("edge.test")))
        assert "its certificate is not accepted: '" in said


@pytest.mark.parametrize("service", SERVICES)
async def test_a_service_whose_certificate_has_expired(service: Service, tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    async with service(authority, True, tmp_path) as opened:
        said = await refusal(opened(authority, authority.issue("edge.test")))
        assert "its certificate is not accepted: 'certificate has expired'" in said
