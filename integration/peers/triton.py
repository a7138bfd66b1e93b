"""A real Triton (the tritonserver binary of nvidia-pytriton, with its Python backend), on loopback."""

import shutil
import sys
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from ctypes.util import find_library
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from uuid import uuid4

from integration.stack.ports import free_ports
from integration.stack.process import Process, answers
from integration.stack.supervisor import supervised

ROOT = Path(__file__).resolve().parents[2]
ENVIRONMENT = ROOT / "build" / "triton"

# Doubles its input `x` (FP32, [-1, 2]) into `y`. For tests that need any model at all.
DOUBLING = """
import triton_python_backend_utils as pb

class TritonPythonModel:
    def execute(self, requests):
        tensors = [pb.get_input_tensor_by_name(request, "x").as_numpy() for request in requests]
        return [pb.InferenceResponse([pb.Tensor("y", tensor * 2)]) for tensor in tensors]
"""
DOUBLING_CONFIG = """
backend: "python"
max_batch_size: 8
input [{ name: "x" data_type: TYPE_FP32 dims: [ 2 ] }]
output [{ name: "y" data_type: TYPE_FP32 dims: [ 2 ] }]
instance_group [{ kind: KIND_CPU count: 1 }]
"""

# Calls another model itself, by what Triton calls business logic scripting, and hands its `y` on.
CALLING = """
import triton_python_backend_utils as pb

class TritonPythonModel:
    def execute(self, requests):
        replies = []
        for request in requests:
            x = pb.get_input_tensor_by_name(request, "x")
            reply = pb.InferenceRequest(model_name="{model}", requested_output_names=["y"], inputs=[x]).exec()
            if reply.has_error():
                replies.append(pb.InferenceResponse([], pb.TritonError(reply.error().message())))
            else:
                replies.append(pb.InferenceResponse([pb.get_output_tensor_by_name(reply, "y")]))
        return replies
"""

# Answers each request of a sequence with the sums of its inputs so far. What was not begun here is far off.
SUMMING = """
import triton_python_backend_utils as pb

class TritonPythonModel:
    def initialize(self, args):
        self.sums = {}

    def execute(self, requests):
        replies = []
        for request in requests:
            identity, x = request.correlation_id(), pb.get_input_tensor_by_name(request, "x").as_numpy()
            begins = request.flags() & pb.TRITONSERVER_REQUEST_FLAG_SEQUENCE_START
            self.sums[identity] = x + (0 if begins else self.sums.get(identity, -1e6))
            replies.append(pb.InferenceResponse([pb.Tensor("y", self.sums[identity])]))
        return replies
"""
SUMMING_CONFIG = (
    DOUBLING_CONFIG
    + """
sequence_batching {
  max_sequence_idle_microseconds: 60000000
  oldest { max_candidate_sequences: 256 }
}
"""
)


@dataclass(frozen=True, slots=True)
class Triton:
    """A running Triton: `host:port` of its two APIs, and its process."""

    grpc: str
    rest: str
    process: Process


def _version() -> str:
    return f"{sys.version_info.major}.{sys.version_info.minor}"


def _packages() -> Path:
    return ENVIRONMENT / "lib" / f"python{_version()}" / "site-packages"


def _server() -> Path:
    return _packages() / "pytriton" / "tritonserver"


def _stub() -> Path:
    return _server() / "python_backend_stubs" / _version() / "triton_python_backend_stub"


def missing() -> str | None:
    """Why no Triton can be started here, or None if it can."""
    if not (_server() / "bin" / "tritonserver").exists():
        return f"no Triton under {ENVIRONMENT}: run `integration/setup.sh triton`"
    if not _stub().exists():
        return "this Triton has no Python backend for this Python version"
    if find_library(f"python{_version()}") is None:
        return f"Triton's Python backend needs the shared library of Python: apt-get install libpython{_version()}"
    return None


def write_model(repository: Path, name: str, config: str = DOUBLING_CONFIG, code: str = DOUBLING) -> Path:
    """Write a Python-backend model, version 1, into `repository`; returns its folder."""
    folder = repository / name
    (folder / "1").mkdir(parents=True)
    (folder / "config.pbtxt").write_text(config)
    (folder / "1" / "model.py").write_text(code)
    return folder


def write_ensemble(repository: Path, name: str, *steps: str, folder: str | None = "1") -> Path:
    """Write an ensemble that sends its `x` through one model after the other; returns its folder.

    A step is `model` or `model:version`. Its version's `folder` is empty, as Triton's own examples have it; None: there
    is no such folder.
    """
    parts = []
    for place, step in enumerate(steps):
        model, _, version = step.partition(":")
        source = "x" if place == 0 else f"t{place}"
        result = "y" if place == len(steps) - 1 else f"t{place + 1}"
        parts.append(
            f'{{ model_name: "{model}" model_version: {version or -1} '
            f'input_map {{ key: "x" value: "{source}" }} output_map {{ key: "y" value: "{result}" }} }}'
        )
    tensors = DOUBLING_CONFIG.replace('backend: "python"', 'platform: "ensemble"').partition("instance_group")[0]
    made = repository / name
    made.mkdir(parents=True)
    (made / "config.pbtxt").write_text(f"{tensors}ensemble_scheduling {{ step [ {', '.join(parts)} ] }}\n")
    if folder is not None:
        (made / folder).mkdir()
    return made


@asynccontextmanager
async def triton(
    repository: Path,
    *,
    load: Sequence[str] = (),
    within: float = 60.0,
    options: Sequence[str] = (),
    completes: bool = False,
) -> AsyncIterator[Triton]:
    """Run a Triton with explicit model control over `repository`; at the end its whole process group is gone.

    `load` names the models to load at the start, `within` is the longest wait for readiness in seconds and
    `options` are added to its command line. With `completes` it completes the models' configurations, as it does unless
    it is told not to: for that it starts each Python model once more, and waits for two seconds at each load.
    One that crashes is started again (`Supervisor`), with the models of `load`. Raises ProcessError with the tail of
    its log.
    """
    with TemporaryDirectory(prefix="tbms-triton-") as scratch, installed(Path(scratch)) as program:
        grpc_port, http_port = free_ports(2)
        process = Process(
            "Triton",
            [
                program,
                f"--model-repository={repository}",
                "--model-control-mode=explicit",
                *(f"--load-model={name}" for name in load),
                "--grpc-address=127.0.0.1",
                f"--grpc-port={grpc_port}",
                "--http-address=127.0.0.1",
                f"--http-port={http_port}",
                "--exit-timeout-secs=5",
                *([] if completes else ["--disable-auto-complete-config"]),
                *options,
            ],
            Path(scratch) / "triton.log",
        )
        # Killed at the end: it would take seconds to leave.
        async with supervised(process, answers(f"http://127.0.0.1:{http_port}/v2/health/ready"), within):
            yield Triton(f"127.0.0.1:{grpc_port}", f"127.0.0.1:{http_port}", process)


@contextmanager
def installed(folder: Path) -> Iterator[Path]:
    """A `tritonserver` in `folder` that is called as an installed one is. At the end its shared memory is removed.

    It opens no port for metrics. It has its libraries, the Python whose packages its Python backend takes, and a
    backend folder: the backend looks for its stub beside itself, but there is one stub for each Python version.
    """
    backends = folder / "backends"
    shutil.copytree(_server() / "backends" / "python", backends / "python")
    shutil.copy(_stub(), backends / "python")
    shared_memory = f"tbms_triton_{uuid4().hex}_"
    program = folder / "tritonserver"
    program.write_text(
        f"#!/bin/sh\nexport LD_LIBRARY_PATH={_packages() / 'nvidia_pytriton.libs'} PATH={ENVIRONMENT / 'bin'}:$PATH\n"
        f"exec {_server() / 'bin' / 'tritonserver'} --backend-directory={backends} --allow-metrics=false "
        f'--backend-config=python,shm-region-prefix-name={shared_memory} "$@"\n'
    )
    program.chmod(0o755)
    try:
        yield program
    finally:
        for region in Path("/dev/shm").glob(f"{shared_memory}*"):
            region.unlink(missing_ok=True)
