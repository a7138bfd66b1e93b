"""The folder of models: `<name>/<version>/model.onnx`, and optionally `<name>/tbms.json`."""

from collections.abc import Iterable
from dataclasses import dataclass
from enum import Enum, auto
from pathlib import Path
from random import Random

from pydantic import Field, ValidationError

from mesh.model_server.errors import invalid
from mesh.names import name_fault
from mesh.settings import Settings
from mesh.small_file import read_small

MODEL_FILE = "model.onnx"
KNOBS_FILE = "tbms.json"
MAX_VERSION = 2**63 - 1


class Knobs(Settings):
    """Simulation knobs of one model, for demos, tests and benchmarks. They change no answer, only time and reports.

    `delay_ms` is added to each inference and `load_delay_ms` to each load, on top of the server's own; with a
    `delay_sigma` the delay is drawn from a log-normal distribution of which `delay_ms` is the median.
    `memory_bytes` is reported as the model's memory in V2's ModelStatistics.
    """

    delay_ms: float = Field(default=0.0, ge=0)
    delay_sigma: float = Field(default=0.0, ge=0, le=3)
    load_delay_ms: float = Field(default=0.0, ge=0)
    memory_bytes: int | None = Field(default=None, ge=0)

    def delay(self, dice: Random) -> float:
        """The seconds to add to one inference."""
        return self.delay_ms / 1000 * dice.lognormvariate(0.0, self.delay_sigma)


class Keep(Enum):
    """TF Serving's version policies."""

    LATEST = auto()
    ALL = auto()
    SPECIFIC = auto()


@dataclass(frozen=True, slots=True)
class VersionPolicy:
    """Which of a model's versions are served: the `count` latest (TF Serving's default: one), all, or those named."""

    keep: Keep = Keep.LATEST
    count: int = 1
    versions: frozenset[int] = frozenset()

    def choose(self, present: Iterable[int]) -> list[int]:
        """The versions to serve, ascending, out of those that are present."""
        ascending = sorted(present)
        if self.keep is Keep.ALL:
            return ascending
        if self.keep is Keep.SPECIFIC:
            return [version for version in ascending if version in self.versions]
        return ascending[-max(self.count, 1) :]


def is_valid_name(name: str) -> bool:
    """Whether a model name is safe to use as the name of one folder."""
    return name_fault(name) is None


def versions(base: Path) -> dict[int, Path]:
    """The version folders under a model's base path. Raises OSError if there is no such folder.

    Of two with one number it is the one whose name sorts last, `1` before `001`: TF Serving takes the last one listed.
    """
    found: dict[int, Path] = {}
    for child in sorted(base.iterdir()):
        if child.name.isascii() and child.name.isdigit() and len(child.name) < 20 and child.is_dir():
            number = int(child.name)
            if number <= MAX_VERSION:
                found[number] = child
    return found


def knobs(base: Path) -> Knobs:
    """The model's simulation knobs; the defaults where it has no file of them. Raises ServingError."""
    file = base / KNOBS_FILE
    try:
        return Knobs.model_validate_json(read_small(file))
    except FileNotFoundError:
        return Knobs()
    except (OSError, ValidationError) as error:
        raise invalid(f"{file} is not a valid {KNOBS_FILE}: {error}") from error


@dataclass(frozen=True, slots=True)
class Repository:
    """The folder whose sub-folders are models. A reload may name base paths inside it only."""

    root: Path

    def names(self) -> list[str]:
        """Every model folder, sorted."""
        return sorted(child.name for child in self.root.iterdir() if is_valid_name(child.name) and child.is_dir())

    def base(self, name: str) -> Path | None:
        """The folder of one model, or None if the name is not safe or no such folder exists."""
        if not is_valid_name(name):
            return None
        base = self.root / name
        return base if base.is_dir() else None

    def admits(self, base: Path) -> bool:
        """Whether a base path, links resolved, lies inside the repository."""
        return base.resolve().is_relative_to(self.root.resolve())
