"""What a node says of the models that it holds: lines of JSON, the first one full, then changes. No I/O.

    {"v":1,"full":true,"models":{"resnet":"available"},"leaving":false,"free":{"models":3,"memory_bytes":null},
     "load":{"models":{"bert":4.2},"default":3.1}}

`load` says how many seconds a call would wait for a model that is not available, and for one that is not named. A line
without models says that the node lives, and how much room it has (null: no limit). Fields that a reader does
not know are passed over, and a state that it does not know counts as absent, so that both can be added to.
"""

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

from mesh.errors import MeshError
from mesh.names import fault_sentence, name_fault
from mesh.residency.state import Residency

VERSION = 1
MAX_LINE = 4 * 1024 * 1024
"""Bytes. Some 50,000 models of 80 characters."""
MAX_MODELS = 50_000
"""Of one node, all its lines together."""
MAX_SECONDS = 1_000_000
"""Of one load."""

_WORDS = {state: state.name.lower() for state in Residency}
_STATES = {word: state for state, word in _WORDS.items()}


class ResidencyError(MeshError):
    """The lines of a node are not what they should be; the message is one sentence that says how."""


@dataclass(frozen=True, slots=True)
class Heard:
    """One line. With `full` exactly these models are on the node, otherwise these changed.

    `free_models` and `free_memory_bytes` are what the node has neither in use nor promised (infinite: no limit).
    `load_seconds` are what a call would wait now: what is left of the load of a model that is loading, the whole of
    one of another. `default_load_seconds` holds for models that were never named; None: the node does not know yet.
    """

    models: Mapping[str, Residency]
    full: bool = False
    leaving: bool = False
    free_models: float = math.inf
    free_memory_bytes: float = math.inf
    load_seconds: Mapping[str, float] = field(default_factory=dict)
    default_load_seconds: float | None = None


def write_line(heard: Heard) -> bytes:
    """The line, its end included."""
    document: dict[str, Any] = {
        "v": VERSION,
        "full": heard.full,
        "models": {model: _WORDS[state] for model, state in heard.models.items()},
        "leaving": heard.leaving,
        "free": {"models": _limit(heard.free_models), "memory_bytes": _limit(heard.free_memory_bytes)},
    }
    if heard.load_seconds or heard.default_load_seconds is not None:
        document["load"] = {
            "models": {model: round(seconds, 3) for model, seconds in heard.load_seconds.items()},
            "default": None if heard.default_load_seconds is None else round(heard.default_load_seconds, 3),
        }
    return json.dumps(document, separators=(",", ":")).encode() + b"\n"


class Lines:
    """Reads the bytes of one stream as they come. What it keeps is bounded by MAX_LINE and MAX_MODELS."""

    def __init__(self) -> None:
        self._rest = bytearray()
        self._models: set[str] | None = None

    def push(self, data: bytes) -> list[Heard]:
        """The lines that these bytes complete. Raises ResidencyError, and then the stream is of no use any more."""
        self._rest += data
        *lines, rest = self._rest.split(b"\n") if b"\n" in data else (self._rest,)
        if max(len(rest), *map(len, lines), 0) > MAX_LINE:
            raise ResidencyError(f"A line is longer than {MAX_LINE} bytes.")
        self._rest = rest
        return [self._read(bytes(line)) for line in lines if line]

    def _read(self, line: bytes) -> Heard:
        heard = read_line(line)
        if heard.full:
            self._models = set()
        elif self._models is None:
            raise ResidencyError("The first line is not a full one.")
        for model, state in heard.models.items():
            (self._models.discard if state is Residency.ABSENT else self._models.add)(model)
        if len(self._models) > MAX_MODELS:
            raise ResidencyError(f"It names more than {MAX_MODELS} models.")
        return heard


def read_line(line: bytes) -> Heard:
    """One line. Raises ResidencyError."""
    try:
        document = json.loads(line)
    except (ValueError, RecursionError):
        raise ResidencyError("A line is not JSON.") from None
    if not isinstance(document, dict):
        raise ResidencyError("A line is not a JSON object.")
    version = document.get("v")
    if version != VERSION:
        raise ResidencyError(f"It speaks version {str(version)[:20]!a}; this edge knows version {VERSION}.")
    models = document.get("models", {})
    if not isinstance(models, dict):
        raise ResidencyError("`models` is not an object.")
    free = document.get("free", {})
    if not isinstance(free, dict):
        raise ResidencyError("`free` is not an object.")
    load = document.get("load", {})
    waits = load.get("models", {}) if isinstance(load, dict) else None
    if not isinstance(load, dict) or not isinstance(waits, dict):
        raise ResidencyError("`load` is not an object.")
    if len(waits) > MAX_MODELS:
        raise ResidencyError(f"It names more than {MAX_MODELS} models.")
    default = load.get("default")
    return Heard(
        MappingProxyType({_name(model): _state(state) for model, state in models.items()}),
        full=document.get("full") is True,
        leaving=document.get("leaving") is True,
        free_models=_amount(free.get("models")),
        free_memory_bytes=_amount(free.get("memory_bytes")),
        load_seconds=MappingProxyType({_name(model): _seconds(seconds) for model, seconds in waits.items()}),
        default_load_seconds=None if default is None else _seconds(default),
    )


def _name(model: str) -> str:
    fault = name_fault(model)
    if fault is None:
        return model
    raise ResidencyError(fault_sentence("model name", model, fault))


def _state(word: Any) -> Residency:
    if not isinstance(word, str):
        raise ResidencyError("The state of a model is not a word.")
    return _STATES.get(word, Residency.ABSENT)


def _amount(value: Any) -> float:
    if value is None:
        return math.inf
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ResidencyError("The free room is not a number.")
    try:
        amount = float(value)
    except OverflowError:
        return math.inf
    if math.isnan(amount):
        raise ResidencyError("The free room is not a number.")
    return amount


def _seconds(value: Any) -> float:
    # The comparison refuses NaN and what is beyond a float, too.
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= MAX_SECONDS:
        raise ResidencyError(f"The time of a load is not a number of seconds up to {MAX_SECONDS}.")
    return float(value)


def _limit(amount: float) -> float | None:
    return None if math.isinf(amount) else amount
