"""`tbms policies check`: what is wrong is told with file, place and what there is; what is right is not."""

import copy
import json
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml

from ext_proc.cli.policies.check import run
from ext_proc.kuma.checking.report import Evidence, check
from tests.ext_proc.kuma.samples import FOLDER
from tests.ext_proc.kuma.schemas import kuma_schemas

APPLIED = FOLDER / "2.14/applied"
CONFIGS = FOLDER / "2.14/legacy-mtls"
ALL_CONFIGS = (FOLDER / "2.14/legacy-mtls", FOLDER / "2.14/kri-mtls")
EDGE, NODE = APPLIED / "mpp-edge.yaml", APPLIED / "mpp-node.yaml"
ROUTER = "envoy.filters.http.router"
PROCESSOR = "type.googleapis.com/envoy.extensions.filters.http.ext_proc.v3.ExternalProcessor"

Edit = Callable[[Any], None]


def found(
    folder: Path,
    version: str = "2.14",
    crds: Path | None = None,
    configs: tuple[Path, ...] = (CONFIGS,),
    laid: tuple[str, ...] = (),
) -> list[str]:
    """What is found, without the folder's name."""
    report = check(folder, [version], Evidence(crds, configs, laid=frozenset(laid)))
    return [str(each).replace(f"{folder}/", "").replace(f"{FOLDER}/", "") for each in report.findings]


def edited(folder: Path, source: Path, edit: Edit, name: str | None = None) -> Path:
    """A folder with a copy of a sample's document, changed."""
    folder.mkdir(exist_ok=True)
    document = yaml.safe_load(source.read_text())
    edit(document)
    (folder / (name or source.name)).write_text(yaml.safe_dump(document))
    return folder


def modifications(document: Any) -> Any:
    return document["spec"]["default"]["appendModifications"]


def as_kubernetes(document: Any) -> None:
    document.pop("type"), document.pop("mesh")
    document.update(apiVersion="kuma.io/v1alpha1", kind="MeshProxyPatch", metadata={"name": document.pop("name")})


def in_value(place: int, kind: str, edit: Edit) -> Edit:
    """Changes the value of one modification."""

    def change(document: Any) -> None:
        body = modifications(document)[place][kind]
        value = yaml.safe_load(body["value"])
        edit(value)
        body["value"] = yaml.safe_dump(value)

    return change


def in_match(place: int, kind: str, match: Mapping[str, Any]) -> Edit:
    """Gives one modification another match."""
    return lambda document: modifications(document)[place][kind].update(match=dict(match))


def http_filter(operation: str, name: str | None, origin: str, value: Any) -> Any:
    match = {"origin": origin, **({"name": name} if name else {})}
    return {"httpFilter": {"operation": operation, "match": match, "value": yaml.safe_dump(value)}}


@pytest.mark.parametrize("version", ["2.13", "2.14", "3.0"])
def test_what_live_control_planes_took_is_right(version: str) -> None:
    assert found(FOLDER / version / "applied", version, configs=(FOLDER,)) == []


def test_a_misspelt_field_of_envoy(tmp_path: Path) -> None:
    edit = in_value(1, "httpFilter", lambda value: value["typedConfig"].update(failureModeAlow=False))
    assert found(edited(tmp_path / "p", EDGE, edit)) == [
        "mpp-edge.yaml: MeshProxyPatch tbms-edge spec.default.appendModifications[1].httpFilter.value.typedConfig."
        "failureModeAlow: ExternalProcessor has no such field; failureModeAllow is meant, perhaps"
    ]


def test_a_name_that_matches_nothing(tmp_path: Path) -> None:
    edit = in_match(2, "cluster", {"origin": "outbound", "name": "default_model__default_msvc_8501"})
    (told,) = found(edited(tmp_path / "p", EDGE, edit))
    assert told.startswith(
        "mpp-edge.yaml: MeshProxyPatch tbms-edge spec.default.appendModifications[2].cluster: Patch would"
    )
    assert "(origin outbound, name default_model__default_msvc_8501) matches nothing" in told
    assert (
        "clusters: default_models__default_msvc_8500 (outbound), default_models__default_msvc_8501 (outbound)" in told
    )
    assert "2.14/legacy-mtls/client.before.json" in told


def test_a_listener_that_is_not_there_is_told_with_the_tags_that_are(tmp_path: Path) -> None:
    tags = {"kuma.io/unified-name": "kri_msvc_default_default__models_http"}
    edit = in_match(1, "httpFilter", {"name": ROUTER, "origin": "outbound", "listenerTags": tags})
    (told,) = found(edited(tmp_path / "p", EDGE, edit))
    assert "(origin outbound, name envoy.filters.http.router, tags kuma.io/unified-name=kri_msvc_default_" in told
    assert "listeners: outbound:127.0.0.1:10500 (outbound, kri_msvc_default_default__models_8500), " in told


def test_a_filter_that_is_not_there_is_told_with_those_that_are(tmp_path: Path) -> None:
    edit = in_match(1, "httpFilter", {"name": "envoy.filters.http.rooter", "origin": "inbound"})
    (told,) = found(edited(tmp_path / "p", NODE, edit))
    assert told.endswith(
        "filters of inbound:127.0.1.2:8500, inbound:127.0.1.2:8501: envoy.filters.http.rbac, "
        "envoy.filters.http.grpc_stats, envoy.filters.http.router"
    )


def test_a_port_of_the_wrong_protocol(tmp_path: Path) -> None:
    configs = tmp_path / "configs"
    shutil.copytree(CONFIGS, configs)
    file = configs / "node-a.before.json"
    document = json.loads(file.read_text())
    listeners = document["type.googleapis.com/envoy.config.listener.v3.Listener"]
    for listener in listeners.values():
        proxy = {"@type": "type.googleapis.com/envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy", "cluster": "x"}
        listener["filterChains"][0]["filters"] = [{"name": "envoy.filters.network.tcp_proxy", "typedConfig": proxy}]
    file.write_text(json.dumps(document))
    (told,) = found(edited(tmp_path / "p", NODE, lambda _: None), configs=(configs,))
    assert "8501 is TCP: the port's appProtocol has to be http, http2 or grpc" in told


def test_two_modifications_for_two_ways_of_naming_are_one(tmp_path: Path) -> None:
    def by_both_names(document: Any) -> None:
        items = modifications(document)
        kri = copy.deepcopy(items[2])
        items[2]["cluster"]["match"] = {"name": "default_models__default_msvc_8501"}
        kri["cluster"]["match"] = {"name": "kri_msvc_default_default__models_8501"}
        items.append(kri)

    folder = edited(tmp_path / "p", EDGE, by_both_names)
    assert found(folder, configs=ALL_CONFIGS) == []
    one = edited(tmp_path / "one", EDGE, lambda it: (by_both_names(it), modifications(it).pop(2)))
    (told,) = found(one, configs=ALL_CONFIGS)
    assert "2.14/legacy-mtls/client.before.json" in told


@pytest.mark.parametrize(
    ("operation", "name", "configs"),
    [
        ("AddFirst", None, "2.14/legacy-mtls"),
        ("AddBefore", "envoy.filters.http.rbac", "2.14/kri-mtls"),
        ("AddFirst", None, "3.0/kri-plain"),
    ],
)
def test_a_hole(tmp_path: Path, operation: str, name: str | None, configs: str) -> None:
    def edit(document: Any) -> None:
        value = yaml.safe_load(modifications(document)[1]["httpFilter"]["value"])
        modifications(document)[1] = http_filter(operation, name, "inbound", value)

    (told,) = found(edited(tmp_path / "p", NODE, edit), configs=(FOLDER / configs,))
    assert f"{operation} puts envoy.filters.http.ext_proc before envoy.filters.http.rbac" in told
    assert "callers whom MeshTrafficPermission denies would reach it" in told


def test_labels_that_no_proxy_has(tmp_path: Path) -> None:
    edit: Edit = lambda it: it["spec"]["targetRef"].update(labels={"app": "clint"})  # noqa: E731
    (told,) = found(edited(tmp_path / "p", EDGE, edit))
    assert "selects none of the proxies; their labels: app=client, " in told
    # Where nobody says which labels a proxy has, a policy is tried on those that it would change.
    assert found(tmp_path / "p", configs=(CONFIGS / "client.before.json",)) == []


def unlabelled(folder: Path, *names: str) -> Path:
    """Configurations alone, as an operator saves them: nothing says which labels their proxies have."""
    folder.mkdir()
    for name in names:
        shutil.copy(CONFIGS / f"{name}.before.json", folder / f"{name}.json")
    return folder


def with_a_listener(document: Any) -> None:
    listener = {"name": "egress", "address": {"pipe": {"path": "/run/tbms/egress.sock"}}}
    modifications(document).append({"listener": {"operation": "Add", "value": yaml.safe_dump(listener)}})


def test_without_labels_what_any_proxy_takes_makes_no_proxy_an_edge(tmp_path: Path) -> None:
    folder = edited(tmp_path / "p", EDGE, with_a_listener)
    assert found(folder, configs=(unlabelled(tmp_path / "both", "client", "node-a"),)) == []


def test_without_labels_a_policy_that_fits_no_proxy_is_told_with_what_it_misses(tmp_path: Path) -> None:
    folder = edited(tmp_path / "p", EDGE, with_a_listener)
    told = found(folder, configs=(unlabelled(tmp_path / "node", "node-a"),))
    assert len(told) == 2
    assert all("matches nothing; " in each and "node/node-a.json" in each for each in told)
    assert "(origin outbound, name envoy.filters.http.router" in told[0]


def test_a_policy_for_the_whole_mesh_need_not_change_every_proxy(tmp_path: Path) -> None:
    edit: Edit = lambda it: it["spec"].update(targetRef={"kind": "Mesh"})  # noqa: E731
    assert found(edited(tmp_path / "p", NODE, edit)) == []
    nowhere = edited(tmp_path / "q", NODE, edit)
    edited(nowhere, nowhere / NODE.name, in_match(1, "httpFilter", {"name": "nothing"}))
    assert len(found(nowhere)) == 1


def test_a_filter_that_is_there_twice(tmp_path: Path) -> None:
    folder = edited(tmp_path / "p", NODE, lambda _: None)
    edited(folder, NODE, lambda it: it.update(name="tbms-node-again"), "again.yaml")
    told = found(folder)
    assert len(told) == 2
    where = "again.yaml: MeshProxyPatch tbms-node-again listener inbound:127.0.1.2:8500: in 2.14/legacy-mtls/node-a"
    assert told[0] == f"{where}.before.json it has the filter envoy.filters.http.ext_proc 2 times"


def test_both_forms_are_two_meshes(tmp_path: Path) -> None:
    folder = edited(tmp_path / "p", NODE, lambda _: None)
    edited(folder, NODE, as_kubernetes, "kubernetes.yaml")
    assert found(folder, configs=(FOLDER / "2.14/legacy-mtls", FOLDER / "2.14/kubernetes")) == []


@pytest.mark.parametrize(("version", "errors"), [("2.14", 1), ("3.0", 0)])
def test_circuit_breakers_before_and_after_kuma_merges_them(tmp_path: Path, version: str, errors: int) -> None:
    def edit(document: Any) -> None:
        value = yaml.safe_dump({"circuitBreakers": {"thresholds": [{"maxRequests": 100000}]}})
        match = {"name": "kri_msvc_default_default__models_8501"}
        modifications(document).append({"cluster": {"operation": "Patch", "match": match, "value": value}})

    told = found(edited(tmp_path / "p", EDGE, edit), version, configs=(FOLDER / version / "kri-plain",))
    assert len(told) == errors
    assert all(
        "it has 2 circuit breaker thresholds of priority DEFAULT, and Envoy takes the first" in each for each in told
    )


def test_the_breakers_of_the_servers_cluster_stay_as_they_are(tmp_path: Path) -> None:
    thresholds = [{"maxRequests": 100000}]
    edit = in_value(0, "cluster", lambda value: value.update(circuitBreakers={"thresholds": thresholds}))
    folder = edited(tmp_path / "p", EDGE, edit)
    edited(folder, APPLIED / "mpp-node.yaml", edit)
    for version in ("2.13", "2.14", "3.0"):
        assert found(folder, version, configs=(FOLDER,)) == []


@pytest.mark.parametrize(
    ("value", "error"),
    [
        ({"name": "x", "type": "EDS"}, "cluster x: in 2.14/legacy-mtls/client.before.json it is added as EDS"),
        (None, "has loadBalancingPolicy beside lbSubsetConfig"),
    ],
)
def test_clusters_that_would_break_the_configuration(tmp_path: Path, value: Any, error: str) -> None:
    def edit(document: Any) -> None:
        if value is not None:
            modifications(document).append({"cluster": {"operation": "Add", "value": yaml.safe_dump(value)}})
        else:
            body = modifications(document)[2]["cluster"]
            body["value"] += "lbSubsetConfig: {fallbackPolicy: ANY_ENDPOINT}\n"

    assert any(error in each for each in found(edited(tmp_path / "p", EDGE, edit)))


CONTAINER_PATCH = """
apiVersion: kuma.io/v1alpha1
kind: ContainerPatch
metadata: {name: tbms}
spec: {%s: [{op: add, path: %s, value: '["tbms", "lay", "/run/tbms/known.pb"]'}]}
"""


def test_an_added_listener_calls_clusters_that_are_there(tmp_path: Path) -> None:
    wanted = "default_node-c__zone-2_msvc_8501"
    proxy = {"@type": "type.googleapis.com/envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy", "cluster": wanted}
    chain = {"filters": [{"name": "envoy.filters.network.tcp_proxy", "typedConfig": proxy}]}
    added = {"listener": {"operation": "Add", "value": yaml.safe_dump({"name": "egress", "filterChains": [chain]})}}
    folder = edited(tmp_path / "p", EDGE, lambda it: modifications(it).append(added))
    (told,) = found(folder)
    assert (
        f"listener egress: in 2.14/legacy-mtls/client.before.json it calls {wanted}, and there is only default_" in told
    )
    # A route to a node of another zone brings its cluster.
    edited(folder, FOLDER / "2.14/zones/applied/route.yaml", lambda _: None)
    assert found(folder) == []


class TestKnownMap:
    FILE = "/run/tbms/known.pb"

    @pytest.fixture
    def folder(self, tmp_path: Path) -> Path:
        source = {"configSource": {"pathConfigSource": {"path": self.FILE}}, "typeUrls": [PROCESSOR]}
        value = {"name": "tbms-known", "configDiscovery": source}
        added = http_filter("AddBefore", ROUTER, "outbound", value)
        return edited(tmp_path / "p", EDGE, lambda it: modifications(it).insert(1, added))

    def test_a_file_that_nobody_lays(self, folder: Path) -> None:
        (told,) = found(folder)
        assert "/run/tbms/known.pb may not be there when Envoy reads the listener" in told
        assert found(folder, laid=(self.FILE,)) == []

    @pytest.mark.parametrize(
        ("name", "text"),
        [
            (
                "tbms.conf",
                "d /run/tbms 0770 tbms kuma\nC /run/tbms/known.pb 0640 tbms kuma - /usr/share/tbms/empty.pb\n",
            ),
            ("tbms.service", "[Unit]\nBefore=kuma-dp.service\n[Service]\nExecStart=tbms serve # /run/tbms/known.pb\n"),
        ],
    )
    def test_what_lays_it(self, folder: Path, name: str, text: str) -> None:
        (folder / name).write_text(text)
        assert found(folder) == []

    @pytest.mark.parametrize(("socket", "errors"), [("/run/tbms/tbms.sock", 0), ("/run/tbms/other.sock", 1)])
    def test_the_command_lays_what_is_beside_the_socket_of_its_configuration(
        self, folder: Path, socket: str, errors: int
    ) -> None:
        text = (folder / EDGE.name).read_text().replace(self.FILE, "/run/tbms/tbms.sock.known.pb")
        (folder / EDGE.name).write_text(text)
        (folder / "tbms.yaml").write_text(f"server: {{listen: 'unix:{socket}'}}\n")
        (folder / "tbms.service").write_text("[Service]\nExecStartPre=tbms known-map -c /etc/tbms/tbms.yaml\n")
        assert len(found(folder)) == errors

    @pytest.mark.parametrize(
        ("text", "errors"),
        [
            ("kind: Pod\nspec:\n  initContainers: [{command: [tbms, lay, /run/tbms/known.pb]}]\n", 0),
            ("kind: Pod\nspec:\n  containers: [{command: [tbms, serve, /run/tbms/known.pb]}]\n", 1),
            (CONTAINER_PATCH % ("initPatch", "/command"), 0),
            (CONTAINER_PATCH % ("sidecarPatch", "/command"), 0),
            (CONTAINER_PATCH % ("sidecarPatch", "/env/-"), 1),
        ],
    )
    def test_what_lays_it_in_a_cluster(self, folder: Path, text: str, errors: int) -> None:
        edited(folder, folder / EDGE.name, as_kubernetes)
        (folder / "manifest.yaml").write_text(text)
        assert len(found(folder, configs=())) == errors

    @pytest.mark.parametrize(
        ("name", "text"),
        [
            ("tbms.conf", "C /run/tbms/other.pb 0640 tbms kuma - /usr/share/tbms/empty.pb\n"),
            ("tbms.service", "[Unit]\nAfter=kuma-dp.service\n[Service]\nExecStart=tbms serve # /run/tbms/known.pb\n"),
            ("pod.yaml", "kind: Pod\nspec:\n  containers: [{command: [tbms, serve, /run/tbms/known.pb]}]\n"),
        ],
    )
    def test_what_does_not(self, folder: Path, name: str, text: str) -> None:
        (folder / name).write_text(text)
        assert len(found(folder)) == 1


def test_a_dataplane_without_an_inbound(tmp_path: Path) -> None:
    folder = edited(tmp_path / "p", APPLIED / "client.yaml", lambda it: it["networking"].pop("inbound"))
    (told,) = found(folder, configs=())
    assert told.startswith(
        "client.yaml: Dataplane client networking.inbound: a Dataplane without an inbound is selected by no"
    )


IDENTITY: Any = {
    "type": "MeshIdentity", "name": "identity", "mesh": "default",
    "spec": {"selector": {"dataplane": {"matchLabels": {}}}, "spiffeID": {"path": '/w/{{ label "kuma.io/workload" }}'}},
}  # fmt: skip


def without_workload(tmp_path: Path, *identities: Any) -> list[str]:
    """What is found of these identities, where a Dataplane does not name its workload."""
    folder = edited(tmp_path / "p", APPLIED / "client.yaml", lambda it: it["labels"].pop("kuma.io/workload"))
    for index, identity in enumerate(identities):
        (folder / f"{index}.yaml").write_text(yaml.safe_dump(identity))
    return found(folder, configs=())


def with_spec(name: str, **spec: Any) -> Any:
    return {**IDENTITY, "name": name, "spec": {**IDENTITY["spec"], **spec}}


@pytest.mark.parametrize("path", ['/w/{{ label "kuma.io/workload" }}', "/w/{{.Workload}}", None])
def test_a_dataplane_without_the_workload_that_its_identity_is_made_from(tmp_path: Path, path: str | None) -> None:
    (told,) = without_workload(tmp_path, with_spec("identity", spiffeID={} if path is None else {"path": path}))
    assert told == (
        "0.yaml: MeshIdentity identity spec.spiffeID.path: Dataplane client has no label kuma.io/workload, from which "
        "its identity is made: the control plane would refuse it when it connects the next time"
    )


def test_an_identity_that_is_made_from_something_else(tmp_path: Path) -> None:
    assert without_workload(tmp_path, with_spec("identity", spiffeID={"path": "/sa/{{ .ServiceAccount }}"})) == []


@pytest.mark.parametrize("selector", [None, {}, {"dataplane": {"matchLabels": {"app": "models"}}}])
def test_an_identity_that_selects_others(tmp_path: Path, selector: Any) -> None:
    assert without_workload(tmp_path, with_spec("identity", selector=selector)) == []


def test_of_several_identities_the_one_that_selects_most_exactly(tmp_path: Path) -> None:
    own = {"dataplane": {"matchLabels": {"app": "client"}}}
    other = with_spec("own", selector=own, spiffeID={"path": "/client"})
    assert without_workload(tmp_path, IDENTITY, other) == []
    (told,) = without_workload(tmp_path, IDENTITY, {**other, "spec": {**IDENTITY["spec"], "selector": own}})
    assert told.startswith("1.yaml: MeshIdentity own")


def test_a_sidecar_without_the_workload_that_its_identity_is_made_from(tmp_path: Path) -> None:
    (tmp_path / "p").mkdir()
    (tmp_path / "p/identity.yaml").write_text(yaml.safe_dump(IDENTITY))
    shutil.copytree(CONFIGS, tmp_path / "c")
    assert found(tmp_path / "p", configs=(tmp_path / "c",)) == []
    overview = json.loads((CONFIGS / "overview.json").read_text())
    for item in overview:
        item["labels"].pop("kuma.io/workload")
    (tmp_path / "c/overview.json").write_text(json.dumps(overview))
    (told,) = found(tmp_path / "p", configs=(tmp_path / "c",))
    assert "client.before.json has no label kuma.io/workload" in told
    assert told.endswith("(and in 1 more)")


def test_what_kuma_3_no_longer_selects_by(tmp_path: Path) -> None:
    edit: Edit = lambda it: it["spec"].update(targetRef={"kind": "MeshSubset", "tags": {"app": "client"}})  # noqa: E731
    folder = edited(tmp_path / "p", EDGE, edit)
    assert found(folder, "2.14") == []
    assert "Kuma 3.0 selects by Mesh and Dataplane, not MeshSubset" in found(folder, "3.0", configs=())[0]


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("a: [", "no YAML"),
        ("type: MeshTimeout\ntype: Mesh\n", "'type' is there twice"),
        ("type: MeshProxyPatch\nname: x\nspec: {default: {}}\n", "a patch without modifications does nothing"),
        ("kind: Kustomization\n", "there is no document of Kuma 2.14 in it"),
    ],
)
def test_what_cannot_be_read(tmp_path: Path, text: str, error: str) -> None:
    (tmp_path / "p").mkdir()
    (tmp_path / "p/x.yaml").write_text(text)
    assert any(error in each for each in found(tmp_path / "p", configs=()))


class TestSchemas:
    @pytest.fixture
    def crds(self) -> Path:
        found = kuma_schemas()
        if found is None:
            pytest.skip("Kuma's schemas are not here: KUMA_SCHEMAS names their folder")
        return found

    @pytest.mark.parametrize("version", ["2.13", "2.14"])
    def test_what_live_control_planes_took_is_right(self, crds: Path, version: str) -> None:
        assert found(FOLDER / version / "applied", version, crds, configs=()) == []

    def test_a_field_that_a_control_plane_took_and_forgot(self, crds: Path) -> None:
        assert found(FOLDER / "3.0/applied", "3.0", crds, configs=()) == [
            "mesh-plain.yaml: Mesh default meshServices: there is no such field"
        ]

    @pytest.mark.parametrize("version", ["2.13", "2.14", "3.0"])
    def test_unknown_fields_at_every_depth(self, crds: Path, version: str, tmp_path: Path) -> None:
        def edit(document: Any) -> None:
            document["labls"] = {}
            document["spec"]["targetRef"]["label"] = {}
            modifications(document)[1]["httpFilter"]["match"]["listenerTag"] = {}

        told = found(edited(tmp_path / "p", EDGE, edit), version, crds, configs=())
        assert [each.partition(": MeshProxyPatch tbms-edge ")[2] for each in told[:3]] == [
            "labls: there is no such field; labels is meant, perhaps",
            "spec.default.appendModifications[1].httpFilter.match.listenerTag: there is no such field; "
            "listenerTags is meant, perhaps",
            "spec.targetRef.label: there is no such field; labels is meant, perhaps",
        ]

    def test_documents_of_kubernetes(self, crds: Path, tmp_path: Path) -> None:
        applied = FOLDER / "2.14/kubernetes/applied"
        assert found(applied, "2.14", crds, configs=(FOLDER / "2.14/kubernetes",)) == []
        told = found(
            edited(tmp_path / "p", applied / "mpp-edge.yaml", lambda it: it.update(mesh="default")),
            "2.14",
            crds,
            configs=(),
        )
        assert told == ["mpp-edge.yaml: MeshProxyPatch tbms-edge mesh: there is no such field"]

    def test_dataplanes_and_meshes_whose_crd_takes_anything(self, crds: Path, tmp_path: Path) -> None:
        folder = edited(
            tmp_path / "p", APPLIED / "node-a.yaml", lambda it: it["networking"]["inbound"][0].update(prt=1)
        )
        (told,) = found(folder, "2.14", crds, configs=())
        assert told.startswith(
            "node-a.yaml: Dataplane node-a networking.inbound[0].prt: there is no such field; port is meant"
        )
        # Tags are gone in 3.0, and the protocol of an inbound was not there in 2.13.
        tags = found(edited(tmp_path / "q", APPLIED / "node-a.yaml", lambda _: None), "3.0", crds, configs=())
        assert "networking.inbound[0].tags: there is no such field" in tags[0]

    def test_a_kind_that_there_is_not(self, crds: Path, tmp_path: Path) -> None:
        folder = edited(tmp_path / "p", EDGE, lambda it: it.update(type="MeshProxyPatches"))
        (told,) = found(folder, "2.14", crds, configs=())
        assert told.endswith("this version of Kuma has no MeshProxyPatches; MeshProxyPatch is meant, perhaps")

    def test_crds_as_a_cluster_lists_them(self, crds: Path, tmp_path: Path) -> None:
        kinds = ("dataplanes", "meshes", "meshproxypatches", "meshservices", "meshtrafficpermissions")
        files = [crds / f"v2.14.3/crds/kuma.io_{kind}.yaml" for kind in kinds]
        listed = tmp_path / "crds.yaml"
        listed.write_text(
            yaml.safe_dump({"kind": "List", "items": [yaml.safe_load(each.read_text()) for each in files]})
        )
        report = check(APPLIED, ["2.14"], Evidence(listed))
        assert report.findings == []
        assert {note.partition(": ")[2].partition(" ")[0] for note in report.notes} == {"Dataplane", "Mesh"}


def test_exit_status_and_the_line_that_counts(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(FOLDER / "2.14/applied", ["2.14"], Evidence(configs=[CONFIGS])) == 0
    line = "policies-check: 9 policies, 1 Kuma versions (2.14), 2 sidecar configurations, 0 errors"
    assert capsys.readouterr().out.splitlines() == ["note: without --crds no document was held against a schema", line]
    wrong = edited(tmp_path / "p", APPLIED / "client.yaml", lambda it: it["networking"].pop("inbound"))
    assert run(wrong, ["2.14"], Evidence()) == 1
    assert capsys.readouterr().out.splitlines()[-1].endswith("0 sidecar configurations, 1 error")
    for crds, configs in ((tmp_path / "p", ()), (None, (APPLIED,)), (None, (tmp_path / "none",))):
        assert run(wrong, ["2.14"], Evidence(crds, configs)) == 2
        assert capsys.readouterr().err


def test_a_version_is_one_that_is_known(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(FOLDER / "2.14/applied", ["2.14.3"], Evidence()) == 0
    assert "1 Kuma versions (2.14)" in capsys.readouterr().out
    for version in ("2.15", "9", "x"):
        assert run(FOLDER / "2.14/applied", [version], Evidence()) == 2
        assert capsys.readouterr().err == f"--kuma: {version!r} is not supported; 2.13, 2.14, 3.0 are\n"


def test_the_same_as_a_document(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    wrong = edited(tmp_path / "p", APPLIED / "client.yaml", lambda it: it["networking"].pop("inbound"))
    assert run(wrong, ["2.14"], Evidence(), as_json=True) == 1
    told = json.loads(capsys.readouterr().out)
    assert (told["ok"], told["versions"], told["configs"], len(told["notes"])) == (False, ["2.14"], 0, 2)
    (error,) = told["errors"]
    assert error["file"] == str(wrong / "client.yaml")
    assert error["what"]
