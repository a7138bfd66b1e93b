"""A shell that types a page from top to bottom: in a checkout, with nothing else running, on ports that are free."""

import os
import re
import signal
import subprocess
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from integration.stack.ports import free_ports
from integration.stack.sidecar import TBMS
from tests.pages import ROOT, Block, Page, read

HERE = Path(__file__).parent
_END = "@@ typed"
# Where commands go that are not told: addresses by default. Beside other Envoys one must not look for its predecessor.
_DEFAULTS = {
    '{listen: "0.0.0.0:8080"}': '{listen: "0.0.0.0:8080", egress: "127.0.0.1:8090", admin: "127.0.0.1:9901"}',
    "envoy -c envoy.yaml ": "envoy -c envoy.yaml --disable-hot-restart --concurrency 1 ",
    # Its packages and those of a server do not fit into one environment of tests.
    "python tf_serving_call.py": "python-tf tf_serving_call.py",
    "tbms model-server ": "tbms model-server --grpc-port 8500 --rest-port 8501 ",
    **{f"tbms {command} ": f"tbms {command} --admin 127.0.0.1:9905 " for command in ("load", "unload", "pin", "unpin")},
}
_ADMINS = ("127.0.0.1:9904", "127.0.0.1:9905")
_PORT = re.compile(r"(?:(?<=:)|(?<=port=)|(?<=port )|(?<=port_value: ))\d{4}\b")
# Other machines are this one by another of its addresses.
_MACHINE = re.compile(r"\b10\.0\.0\.(?=\d)")


@dataclass(frozen=True)
class Typed:
    """A block that is typed, and what it should print; None: the page does not show it."""

    block: Block
    shown: str | None = None

    @property
    def commands(self) -> str:
        name, text = self.block.file, self.block.text
        if name is None:
            return text
        return f"mkdir -p {Path(name).parent}\ncat > {name} <<'{_END}'\n{text}{_END}\n"


@dataclass(frozen=True)
class Session:
    """What came of typing: the shell's status, what it printed for each block, and the ends of the logs."""

    status: int
    printed: list[str]
    logs: str


def typed_blocks(page: Page) -> list[Typed]:
    """The blocks of a page that are typed, files that it shows among them."""
    found: list[Typed] = []
    before: Block | None = None
    for block in page.blocks:
        if block.is_typed or block.file is not None:
            found.append(Typed(block))
        elif block.kind == "text" and before is not None and before.is_typed:
            found[-1] = Typed(before, block.text)
        before = block
    return found


def script(page: Page, folder: Path) -> str:
    """All that is typed for a page in this folder, with a mark printed after what it takes for granted, and after each
    of its blocks.
    """
    own = [typed.commands for typed in typed_blocks(page)]
    text = f"echo '{_END}'\n".join([_granted(page), *own, "kill $(jobs -p) || true\nwait\n"])
    asked = " ".join(admin for admin in _ADMINS if admin in text)
    text = f"export TBMS_ADMIN='{asked}'\n{text}"
    # What pages keep in folders of the system and in buckets.
    places = {
        "/run/tbms": f"{folder}/run",
        "/var/lib/tbms": f"{folder}/lib",
        "s3://models/prod": f"file://{folder}/store",
    }
    for told, meant in {**_DEFAULTS, **places}.items():
        text = text.replace(told, meant)
    ports = sorted(set(_PORT.findall(text)))
    free = dict(zip(ports, map(str, free_ports(len(ports))), strict=True))
    return _MACHINE.sub("127.0.0.", _PORT.sub(lambda port: free[port[0]], text))


def _granted(page: Page) -> str:
    if page.after is None:
        return ""
    if page.after.endswith(".sh"):
        return (HERE / page.after).read_text()
    other = read(ROOT / "docs" / page.after)
    stays = [typed.commands for typed in typed_blocks(other) if not typed.block.only_at_the_end]
    return _granted(other) + "".join(stays)


def type_page(commands: str, folder: Path, programs: Path, seconds: float) -> Session:
    """Types a script in the folder, which becomes a checkout, with the programs first on the path.

    After so many seconds it is killed, and its status is below 0. Nothing that was started stays.
    """
    for each in ROOT.iterdir():
        if each.name != "build" and not each.name.startswith("."):
            (folder / each.name).symlink_to(each)
    (folder / "typed.sh").write_text(commands)
    environment = {
        **os.environ,
        "PATH": f"{programs}:{Path(TBMS).parent}:{os.environ['PATH']}",
        "no_proxy": "*",
        "COLUMNS": "80",
    }
    with (folder / "printed").open("w+") as printed:
        shell = subprocess.Popen(
            ["bash", "-eu", "-o", "pipefail", "typed.sh"], cwd=folder, env=environment, start_new_session=True,
            stdin=subprocess.DEVNULL, stdout=printed, stderr=subprocess.STDOUT,
        )  # fmt: skip
        try:
            with suppress(subprocess.TimeoutExpired):
                shell.wait(seconds)
        finally:
            with suppress(ProcessLookupError):
                os.killpg(shell.pid, signal.SIGKILL)
            shell.wait()
        printed.seek(0)
        parts = printed.read().split(f"{_END}\n")
    logs = "".join(f"\n{log}:\n{log.read_text()[-2000:]}" for log in sorted(folder.rglob("*.log")))
    return Session(shell.returncode, parts, logs)


def as_read(text: str) -> str:
    """Lines without what differs from one run to the next: numbers and blanks."""
    lines = [" ".join(re.sub(r"\d+(\.\d+)?", "0", line).split()) for line in text.splitlines()]
    return "".join(f"{line}\n" for line in lines if line)
