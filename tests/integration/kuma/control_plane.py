"""A control plane of Kuma in Universal mode, its kumactl and sidecars, each in a container of Kuma's own images."""

import json
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import httpx
from testcontainers.core.container import DockerContainer
from testcontainers.core.network import Network

RELEASES = {"2.13": "2.13.10", "2.14": "2.14.3", "3.0": "3.0.1"}
_HOST = "control-plane"  # also in the certificate that it makes itself
_ADMIN = "mesh-system:admin"


class ControlPlane:
    """`with ControlPlane(kuma, folder)`: one zone, which keeps everything in memory. `folder` is this one's alone."""

    def __init__(self, kuma: str, folder: Path) -> None:
        self.folder = folder
        folder.chmod(0o755)  # the images' user is nobody here
        self._release = RELEASES[kuma]
        self._stack = ExitStack()
        self._token = ""

    def __enter__(self) -> "ControlPlane":
        with ExitStack() as stack:
            self._network = stack.enter_context(Network())
            plane = DockerContainer(self._image("kuma-cp"), hostname=_HOST).with_command("run")
            plane = plane.with_env("KUMA_ENVIRONMENT", "universal").with_env("KUMA_STORE_TYPE", "memory")
            plane = plane.with_network(self._network).with_network_aliases(_HOST).with_exposed_ports(5681)
            self._plane = stack.enter_context(plane)
            self.url = f"http://{plane.get_container_host_ip()}:{plane.get_exposed_port(5681)}"
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *exc: object) -> None:
        self._stack.close()

    def kumactl(self, *words: str | Path) -> str:
        """What it prints, asked beside the control plane, which takes such callers for administrators. `folder` is
        there under the same path. Raises docker's ContainerError with its words where it fails."""
        client = self._plane.get_docker_client().client
        own = {str(self.folder): {"bind": str(self.folder), "mode": "ro"}}
        beside = f"container:{self._plane.get_wrapped_container().id}"
        printed: bytes = client.containers.run(
            self._image("kumactl"), [str(each) for each in words], network_mode=beside, volumes=own, remove=True
        )
        return printed.decode()

    def apply(self, document: Any) -> str:
        """What kumactl says to that document, or to these."""
        file = self.folder / "applied.yaml"
        every = document if isinstance(document, list) else [document]
        file.write_text("\n---\n".join(json.dumps(each) for each in every))
        return self.kumactl("apply", "-f", file)

    def answers(self) -> bool:
        """Whether it does, by now."""
        try:
            return httpx.get(self.url, trust_env=False).is_success
        except httpx.TransportError:
            return False

    def get(self, path: str) -> Any:
        """What its API answers below /meshes/default/dataplanes, None where there is nothing yet."""
        if not self._token:
            words = ("--name", _ADMIN, "--group", _ADMIN, "--valid-for", "1h")
            self._token = self.kumactl("generate", "user-token", *words)
        answer = httpx.get(
            f"{self.url}/meshes/default/dataplanes{path}",
            headers={"authorization": f"Bearer {self._token}"},
            trust_env=False,
            timeout=30,
        )
        if answer.status_code == httpx.codes.NOT_FOUND:
            return None
        return answer.raise_for_status().json()

    def start_sidecar(self, dataplane: Any, shared: Path) -> None:
        """A sidecar on a machine of its own, which shares that folder with a server as /run/tbms."""
        name = dataplane["name"]
        folder = self.folder / name
        folder.mkdir()
        shared.chmod(0o777)
        (folder / "dataplane.yaml").write_text(json.dumps(dataplane))
        # An identity that is made from the workload takes a token that says it.
        words = ("--name", name, "--workload", dataplane["labels"]["kuma.io/workload"], "--valid-for", "1h")
        (folder / "token").write_text(self.kumactl("generate", "dataplane-token", *words))
        command = f"run --cp-address=https://{_HOST}:5678 --skip-verify --dns-enabled=false"
        command += " --dataplane-file=/etc/dataplane/dataplane.yaml --dataplane-token-file=/etc/dataplane/token"
        sidecar = DockerContainer(self._image("kuma-dp")).with_command(command).with_network(self._network)
        sidecar = sidecar.with_volume_mapping(str(folder), "/etc/dataplane", "ro")
        self._stack.enter_context(sidecar.with_volume_mapping(str(shared), "/run/tbms", "rw"))

    def _image(self, name: str) -> str:
        return f"docker.io/kumahq/{name}:{self._release}"
