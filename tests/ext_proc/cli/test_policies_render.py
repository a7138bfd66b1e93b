"""`tbms policies render`: options, configuration files, and where the files go."""

from dataclasses import replace
from pathlib import Path

import pytest
import yaml
from typer.testing import CliRunner

from ext_proc.cli.main import app
from ext_proc.cli.policies.render import Wishes, description
from ext_proc.errors import ConfigError
from ext_proc.kuma.rendering.description import KNOWN_MAP
from ext_proc.kuma.rendering.files import render_policies
from ext_proc.kuma.rendering.names import Naming

RUN = CliRunner()
HERE = {"kuma": "2.14", "environment": "universal"}


def test_files_go_into_a_folder_or_all_to_the_output(tmp_path: Path) -> None:
    asked = ["policies", "render", "--kuma", "2.14.3", "--environment", "kubernetes", "--namespace", "ml", "--no-known"]
    done = RUN.invoke(app, [*asked, "--out", str(tmp_path / "out")])
    assert done.exit_code == 0, done.output
    names = {path.name for path in (tmp_path / "out").iterdir()}
    assert {"kustomization.yaml", "mesh-proxy-patch-edge.yaml", "mesh-proxy-patch-node.yaml"} <= names
    assert not any(name.startswith(".") for name in names)
    printed = RUN.invoke(app, asked)
    kinds = [document["kind"] for document in yaml.safe_load_all(printed.output)]
    assert kinds.count("MeshProxyPatch") == 2
    assert "Kustomization" not in kinds


@pytest.mark.parametrize(
    ("option", "wishes"),
    [
        ("--kuma", {"kuma": "2.12"}),
        ("--environment", {"environment": "vm"}),
        ("--mesh", {"mesh": "My_Mesh"}),
        ("--zone", {"zone": ""}),
        ("--namespace", {"namespace": "a b"}),
        ("--service", {"service": "models.ml"}),
        ("--port", {"ports": ("http:8501",)}),
        ("--port", {"ports": ("http:99999:http",)}),
        ("--port", {"ports": ("http:8501:tcp",)}),
        ("--port", {"ports": ("a:8501:http", "b:8501:grpc")}),
        ("--naming", {"naming": "short"}),
        ("--naming", {"kuma": "3.0", "naming": "legacy"}),
        ("--edge-labels", {"edge_labels": "client"}),
        ("--node-labels", {"node_labels": "app=models,,"}),
        ("--caller", {"callers": ("a/b/c",)}),
        ("--trust-domain", {"trust_domain": "mesh/local"}),
        ("--local-node", {"local_nodes": ("Node A",)}),
        ("--remote-node", {"remote_nodes": ("node-c",)}),
        ("--gateway", {"gateway": "a.b"}),
        ("--collector", {"collector": "collector"}),
        ("--collector", {"collector": "unix:/run/otel"}),
        ("--system-namespace", {"system_namespace": "-"}),
    ],
)
def test_an_error_names_the_option(option: str, wishes: dict[str, object]) -> None:
    with pytest.raises(ConfigError, match=f"^{option}: "):
        description(Wishes(**(HERE | wishes)))  # type: ignore[arg-type]


def test_what_a_mesh_has_already_is_left_out() -> None:
    mesh = description(Wishes(**(HERE | {"environment": "kubernetes", "namespace": "ml"})))  # type: ignore[arg-type]
    whole = render_policies(mesh)
    left = render_policies(mesh, ("mesh-identity", "mesh-traffic-permission"))
    assert set(whole) - set(left) == {"mesh-identity.yaml", "mesh-traffic-permission.yaml"}
    assert yaml.safe_load(left["kustomization.yaml"])["resources"] == [name for name in left if "kustom" not in name]
    with pytest.raises(
        ConfigError, match=r"^--without: 'identity' is none of the files: container-patch, mesh-identity"
    ):
        render_policies(mesh, ("identity",))


@pytest.mark.parametrize("wishes", [{"environment": "kubernetes"}, {"namespace": "ml"}])
def test_a_namespace_is_for_kubernetes_and_needed_there(wishes: dict[str, object]) -> None:
    mesh = description(Wishes(**(HERE | wishes)))  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match=r"^--namespace: "):
        render_policies(mesh)


def test_what_the_servers_are_told_is_not_told_again(tmp_path: Path) -> None:
    edge, node = tmp_path / "tbms.yaml", tmp_path / "node.yaml"
    edge.write_text(
        "server: {listen: 'unix:/srv/tbms/edge.sock'}\n"
        "envoy: {egress: 'unix:/srv/tbms/out.sock', repeat_lost: false}\n"
        "known: {file: /srv/tbms/map.pb}\n"
        "models: {bert: {limit_ms: 50}}\n"
    )
    node.write_text(
        "node: {hold_seconds: 77, store: {url: 'file:///models'}, batching: {models: {bert: {}}},\n"
        "  cache: {folder: /var/lib/tbms, capacity: {models: 5}, loader: {api: v2, address: '127.0.0.1:8001'}}}\n"
    )
    mesh = description(Wishes(**HERE, config=edge, node_config=node))
    assert (mesh.socket, mesh.known) == ("unix:/srv/tbms/edge.sock", "/srv/tbms/map.pb")
    assert mesh.envoy.egress == "unix:/srv/tbms/out.sock"
    assert mesh.envoy.body_models == ("bert",)
    assert not mesh.envoy.repeat_lost
    assert mesh.hold_seconds == 77
    assert mesh.gathered is not None
    assert mesh.gathered.models == ("bert",)
    assert mesh.folder == "/srv/tbms"
    with pytest.raises(ConfigError, match=r"^--config: "):
        description(Wishes(**HERE, config=node))
    with pytest.raises(ConfigError, match=r"^--node-config: "):
        description(Wishes(**HERE, node_config=edge))


NODE = (
    "node: {store: {url: 'file:///models'},\n"
    "  cache: {folder: /var/lib/tbms, capacity: {models: 5}, loader: {api: v2, address: '127.0.0.1:8001'}}}\n"
    "known: {file: /run/tbms/known.pb}\n"
)


@pytest.mark.parametrize(
    ("kuma", "admin"),
    [
        ("2.13", "127.0.0.1:9901"),
        ("2.14", "unix:/run/kuma/kuma-envoy-admin.sock"),
        ("2.14", "127.0.0.1:9902"),
        ("3.0", "127.0.0.1:9902"),
    ],
)
def test_a_nodes_map_is_that_of_its_configuration(kuma: str, admin: str, tmp_path: Path) -> None:
    node = tmp_path / "node.yaml"
    node.write_text(f"{NODE}envoy: {{admin: '{admin}'}}\n")
    wishes = Wishes(**(HERE | {"kuma": kuma}), node_config=node)
    assert description(wishes).known_at_nodes == "/run/tbms/known.pb"
    assert description(replace(wishes, known=False)).known_at_nodes is None
    # Beside the socket it would lie as well, but that it lies there before the sidecar starts is another's business.
    node.write_text(NODE.replace("known:", "# known:"))
    assert description(wishes).known_at_nodes is None


def test_a_nodes_map_needs_a_place_at_which_its_envoy_tells_what_it_goes_by(tmp_path: Path) -> None:
    node = tmp_path / "node.yaml"
    node.write_text(NODE)
    with pytest.raises(ConfigError, match=r"^envoy\.admin: .* 127\.0\.0\.1:9902, .*kuma-envoy-admin\.sock"):
        description(Wishes(**(HERE | {"kuma": "2.14"}), node_config=node))


def test_the_map_is_where_the_configuration_has_it(tmp_path: Path) -> None:
    file = tmp_path / "tbms.yaml"
    file.write_text("server: {}\n")
    assert description(Wishes(**HERE, config=file)).known == KNOWN_MAP
    file.write_text("server: {listen: 'unix:/srv/a.sock'}\n")
    assert description(Wishes(**HERE, config=file)).known == "/srv/a.sock.known.pb"
    assert description(Wishes(**HERE, config=file, known=False)).known is None
    file.write_text("known: {enabled: false}\n")
    assert description(Wishes(**HERE, config=file)).known is None


@pytest.mark.parametrize("text", ["server: {listen: '127.0.0.1:9500'}", "envoy: {request_ids: false}"])
def test_a_configuration_that_cannot_have_a_map_needs_a_word(text: str, tmp_path: Path) -> None:
    file = tmp_path / "tbms.yaml"
    file.write_text(text)
    with pytest.raises(ConfigError, match=r"^--known: "):
        description(Wishes(**HERE, config=file))
    assert description(Wishes(**HERE, config=file, known=False)).known is None


def test_an_egress_that_anybody_could_call_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "tbms.yaml"
    file.write_text("envoy: {egress: '127.0.0.1:8090'}\n")
    with pytest.raises(ConfigError, match=r"^envoy\.egress: "):
        render_policies(description(Wishes(**HERE, config=file, known=False)))


def test_without_a_word_everything_is_as_the_examples_have_it() -> None:
    mesh = description(Wishes(**HERE))
    assert mesh.known == KNOWN_MAP
    assert mesh.naming is Naming.LEGACY
    assert description(Wishes(kuma="3.0", environment="universal")).naming is Naming.KRI
