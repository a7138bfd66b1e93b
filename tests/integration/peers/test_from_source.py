"""Control planes built from source by a Go that does as it is told: what is asked of it, and what is no failure."""

import os
import time
from pathlib import Path

import pytest

from integration.peers import from_source
from integration.peers.from_source import DoesNotCompile, Module, NotHere, build, main, place

GO = """#!/bin/sh
echo "$@" >> {folder}/asked
case "$1 $2" in
"env GOVERSION") echo go1.26.8 ;;
"mod download") {download}; echo '{{"Dir": "{folder}/module"}}' ;;
"mod edit") [ "$3" = -json ] && cat go.mod.json || true ;;
"list -deps") {listing} ;;
"build -trimpath") {building}; echo built > "$6" ;;
esac
"""
MODULE = Module(
    "example.org/plane", "v1.2.3", commands=("./cmd/served", "./cmd/tool"), released="v0.2.3",
    stamps=("main.version=v1.2.3",),
)  # fmt: skip
FILES = Module("example.org/files/v2", "v2.0.0", folders=("config/bases",))
ONE_COMMAND = Module("example.org/one/v3", "v3.0.0", commands=("./cmd",))
MODULE_FILE = """{
  "Require": [{"Path": "example.org/staged", "Version": "v0.0.0"}, {"Path": "example.org/other", "Version": "v1.0.0"}],
  "Replace": [{"Old": {"Path": "example.org/part"}, "New": {"Path": "./part"}}]
}"""


class Toolchain:
    """What `go` is in a test: commands of a shell at its steps."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        module = folder / "module"
        (module / "config/bases").mkdir(parents=True)
        (module / "config/bases/one.yaml").write_text("kind: One\n")
        (module / "go.mod.json").write_text(MODULE_FILE)
        self.does()

    def does(self, *, download: str = ":", listing: str = ":", building: str = ":") -> None:
        text = GO.format(folder=self.folder, download=download, listing=listing, building=building)
        file = self.folder / "go"
        file.write_text(text)
        file.chmod(0o755)

    def asked(self) -> list[str]:
        return (self.folder / "asked").read_text().splitlines()


@pytest.fixture
def go(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Toolchain:
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    monkeypatch.setattr(from_source, "BUILT", tmp_path / "peers")
    monkeypatch.setattr(from_source, "MODULES", (FILES, MODULE, ONE_COMMAND))
    return Toolchain(tmp_path)


def tomorrow() -> float:
    return time.monotonic() + 24 * 3600


def test_commands_are_built_with_what_they_were_released_with(go: Toolchain, tmp_path: Path) -> None:
    build(MODULE, tomorrow())
    for command, name in (("./cmd/served", "served-v1.2.3"), ("./cmd/tool", "tool-v1.2.3")):
        assert place(MODULE, command) == tmp_path / "peers" / name
        assert f"{name}.unfinished {command}" in "\n".join(go.asked())
    assert (
        "mod edit -dropreplace=example.org/part"
        " -replace=example.org/part=example.org/part@v0.2.3 -replace=example.org/staged=example.org/staged@v0.2.3"
    ) in go.asked()
    assert sorted(path.name for path in (tmp_path / "peers").iterdir()) == ["served-v1.2.3", "tool-v1.2.3"]


def test_the_one_command_of_a_module_is_called_after_it(go: Toolchain) -> None:
    build(ONE_COMMAND, tomorrow())
    assert place(ONE_COMMAND, "./cmd").name == "one-v3.0.0"
    assert "one-v3.0.0.unfinished ./cmd" in go.asked()[-1]


def test_folders_are_taken_as_they_are(go: Toolchain) -> None:
    build(FILES, tomorrow())
    assert place(FILES, "config/bases").name == "files-bases-v2.0.0"
    assert (place(FILES, "config/bases") / "one.yaml").read_text() == "kind: One\n"
    assert not [line for line in go.asked() if line.startswith("build")]


def test_what_is_built_is_not_built_again(go: Toolchain) -> None:
    build(MODULE, tomorrow())
    before = go.asked()
    build(MODULE, tomorrow())
    assert go.asked() == before


@pytest.mark.parametrize(
    ("does", "told"),
    [
        ({"download": "echo dial tcp: no route >&2; exit 1"}, "its modules cannot be fetched: dial tcp: no route"),
        ({"listing": "echo 502 Bad Gateway >&2; exit 1"}, "its modules cannot be fetched: 502 Bad Gateway"),
        ({"building": "echo write: no space left on device >&2; exit 1"}, "the disk is full"),
        ({"building": "echo compile: signal: killed >&2; exit 1"}, "the compiler was killed, as where memory is short"),
    ],
)
def test_what_is_nobodys_fault_is_told_and_no_failure(
    go: Toolchain, does: dict[str, str], told: str, capsys: pytest.CaptureFixture[str]
) -> None:
    go.does(**does)
    assert main() == 0
    assert f"example.org/plane v1.2.3 is not here: {told}." in capsys.readouterr().out
    with pytest.raises(FileNotFoundError, match=told):
        place(MODULE, "./cmd/served")


def test_a_go_that_is_too_old(go: Toolchain, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(from_source, "OLDEST_GO", (1, 27))
    with pytest.raises(NotHere, match=r"there is no Go 1\.27 or later"):
        build(MODULE, tomorrow())


def test_a_build_that_takes_too_long_ends(go: Toolchain, tmp_path: Path) -> None:
    go.does(download="exec sleep 600")
    with pytest.raises(NotHere, match="takes longer than 20 minutes here"):
        build(MODULE, time.monotonic())
    assert list((tmp_path / "peers").iterdir()) == []


def test_what_does_not_compile_is_a_failure(go: Toolchain, capsys: pytest.CaptureFixture[str]) -> None:
    go.does(building="echo main.go:1: undefined: x >&2; exit 1")
    assert main() == 1
    assert "undefined: x" in capsys.readouterr().err
    with pytest.raises(DoesNotCompile):
        build(MODULE, tomorrow())
    go.does()
    assert main() == 0
    assert place(MODULE, "./cmd/served").read_text() == "built\n"
