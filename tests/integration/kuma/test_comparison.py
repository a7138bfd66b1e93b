"""What Kuma's own containers are held against, tried on samples of live control planes."""

import json
from pathlib import Path
from typing import Any

import pytest

from ext_proc.kuma.checking.proxies import Proxy, read_proxies
from ext_proc.kuma.checking.rules import RBAC
from ext_proc.kuma.patching.resources import INBOUND, OUTBOUND, Resources
from ext_proc.kuma.rendering.versions import KumaVersion
from integration.kuma.sidecars import SAMPLES
from tests.integration.kuma.comparison import (
    ROUTER,
    documents,
    files,
    filters,
    is_settled,
    misplaced,
    patched,
    placed,
    refused,
)

POLICIES = Path(__file__).parents[3] / "kuma-policies/universal"
MTLS = {"2.13": "2.13/legacy-mtls", "2.14": "2.14/legacy-mtls", "3.0": "3.0/kri-mtls"}
VERSIONS = [each.value for each in KumaVersion]


def proxies(sample: str) -> dict[str, Proxy]:
    return {each.file.name.partition(".")[0]: each for each in read_proxies(SAMPLES / sample, sample.partition("/")[0])}


def document(sample: str, file: str) -> Any:
    return json.loads((SAMPLES / sample / file).read_text())


@pytest.mark.parametrize("kuma", VERSIONS)
def test_every_document_of_a_version_is_applied_and_patches_last(kuma: str) -> None:
    without, patches = files(POLICIES / kuma)
    assert [each.name for each in patches] == [f"mesh-proxy-patch-{role}.yaml" for role in ("edge", "gateway", "node")]
    left_out = {each.name for each in (POLICIES / kuma).iterdir()} - {each.name for each in (*without, *patches)}
    assert left_out == {"dataplane-client-1.yaml", "dataplane-node-a.yaml"}
    assert all(documents(each) for each in without)


def test_an_example_gets_an_address_of_its_machine() -> None:
    file = POLICIES / "2.14/dataplane-node-a.yaml"
    found, (example,) = placed(file, "127.0.1.2"), documents(file)
    assert found["networking"].pop("address") == "127.0.1.2" != example["networking"].pop("address")
    assert found == example


@pytest.mark.parametrize("sample", [*MTLS.values(), "2.13/kri-plain", "2.14/kri-mtls", "3.0/kri-plain"])
def test_what_was_applied_makes_what_came_after(sample: str) -> None:
    kuma, after = sample.partition("/")[0], {}
    for name, proxy in proxies(sample).items():
        after[name] = patched(SAMPLES / kuma / "applied", kuma, proxy)
        assert after[name] == Resources(document(sample, f"{name}.after.json")).document()
    assert set(after) == {"client", "node-a"}


@pytest.mark.parametrize(("kuma", "sample"), MTLS.items())
def test_our_policies_select_each_its_own(kuma: str, sample: str) -> None:
    for name, proxy in proxies(sample).items():
        found = Resources(patched(POLICIES / kuma, kuma, proxy))
        origin = OUTBOUND if name == "client" else INBOUND
        chains = filters(found, origin)
        assert len(chains) == 2
        assert [misplaced(each, known=name == "client") for each in chains] == [None, None]
        assert found.document() != proxy.resources().document()


@pytest.mark.parametrize(
    ("names", "told"),
    [
        ([RBAC, "tbms", "tbms-known", ROUTER], "tbms is not right before"),
        ([RBAC, "tbms-known", "tbms", "another", ROUTER], "tbms is not right before"),
        ([RBAC, ROUTER], "tbms is not right before"),
        ([RBAC, "tbms", ROUTER], "tbms-known is not among them"),
        (["tbms-known", RBAC, "tbms", ROUTER], f"{RBAC} is behind tbms-known"),
    ],
)
def test_a_chain_in_another_order_is_told(names: list[str], told: str) -> None:
    assert (misplaced(names, known=True) or "").startswith(told)


def test_a_chain_as_promised_is_not() -> None:
    chain = [RBAC, "envoy.filters.http.grpc_stats", "tbms-known", "tbms", ROUTER]
    assert misplaced(chain, known=True) is None
    assert (misplaced(chain, known=False) or "").startswith("tbms-known is among them")


def test_a_sidecar_is_settled_when_it_has_mtls_and_endpoints() -> None:
    for sample in MTLS.values():
        assert all(is_settled(each.resources()) for each in proxies(sample).values())
    assert not any(is_settled(each.resources()) for each in proxies("2.14/kri-plain").values())
    assert not is_settled(Resources({}))
    client = document("2.14/kri-mtls", "client.before.json")
    for assignment in client["type.googleapis.com/envoy.config.endpoint.v3.ClusterLoadAssignment"].values():
        assignment.pop("endpoints")
    assert not is_settled(Resources(client))


def test_what_a_sidecar_refused_is_counted() -> None:
    subscriptions = [
        {"id": "first", "status": {"total": {"responsesSent": "3", "responsesRejected": "2"}}},
        {"id": "second", "status": {"total": {"responsesSent": "1"}, "lds": {}}},
        {"id": "third"},
    ]
    overview = {"items": [{"name": "node-a", "dataplaneInsight": {"subscriptions": subscriptions}}, {"name": "node-b"}]}
    assert refused(overview, "node-a") == 2
