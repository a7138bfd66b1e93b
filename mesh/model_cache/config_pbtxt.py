"""A model's `config.pbtxt`, Triton's configuration of it: read here, and nowhere else."""

from pathlib import Path
from typing import TYPE_CHECKING

from mesh.errors import MeshError
from mesh.model_cache.books.needs import MAX_NEEDED, Need
from mesh.names import fault_sentence, name_fault

if TYPE_CHECKING:
    from tritonclient.grpc import model_config_pb2

NAME = "config.pbtxt"
MAX_BYTES = 256 * 1024
"""Of the whole file: it is read in Python, at some 300 KiB/s."""

_SHOWN = 300  # characters of what the parser says
_SCHEDULING = b"ensemble_scheduling"


class ConfigFault(MeshError):
    """The file cannot be read. The message begins with its name, and says where the fault is."""


def parse(text: bytes) -> "model_config_pb2.ModelConfig":
    """The configuration. Fields that are not known here are passed over. Raises ConfigFault."""
    from google.protobuf import text_format  # slow to import, and the settings of stores are read by edges, too
    from tritonclient.grpc import model_config_pb2

    check_size(len(text))
    try:
        return text_format.Parse(text.decode(), model_config_pb2.ModelConfig(), allow_unknown_field=True)
    except (text_format.ParseError, UnicodeDecodeError, RecursionError) as error:
        raise ConfigFault(f"{NAME} cannot be read: {' '.join(str(error).split())[:_SHOWN]}") from None


def check_size(size: int) -> None:
    """Raises ConfigFault for more bytes than are read."""
    if size > MAX_BYTES:
        raise ConfigFault(f"{NAME} cannot be read: it has {size} bytes, and at most {MAX_BYTES} are read.")


def read(folder: Path) -> "model_config_pb2.ModelConfig":
    """The configuration in a model's folder; an empty one where there is none. Raises ConfigFault; blocking."""
    return parse(_text(folder))


def needs(text: bytes) -> tuple[Need, ...] | None:
    """The models that an ensemble is made of, each once; None for a model that is no ensemble. Raises ConfigFault.

    A step without `model_version` has version 0 for Triton, as for everybody who reads the message; -1 is the newest.
    """
    if _SCHEDULING not in text:
        return None  # spares most models the parser
    config = parse(text)
    if not config.HasField("ensemble_scheduling"):
        return None
    found = dict.fromkeys(
        Need(step.model_name, None if step.model_version == -1 else step.model_version)
        for step in config.ensemble_scheduling.step
    )
    for need in found:
        if fault := name_fault(need.model):
            raise ConfigFault(f"{NAME} cannot be read: {fault_sentence('name of a step', need.model, fault)}")
    if len(found) > MAX_NEEDED:
        raise ConfigFault(f"{NAME} cannot be read: its ensemble is made of more than {MAX_NEEDED} models.")
    return tuple(found)


def needs_of(folder: Path) -> tuple[Need, ...]:
    """What the model in that folder needs: see `needs`. Nothing, where its file cannot be read; blocking."""
    try:
        return needs(_text(folder)) or ()
    except ConfigFault:
        return ()


def parts_below(folder: Path) -> frozenset[str]:
    """The names of all models that the ensemble in a folder is made of, at any depth, their folders being beside it.

    Blocking.
    """
    found: set[str] = set()
    todo = [folder.name]
    while todo and len(found) <= MAX_NEEDED:
        for need in needs_of(folder.with_name(todo.pop())):
            if need.model not in found:
                found.add(need.model)
                todo.append(need.model)
    return frozenset(found)


def _text(folder: Path) -> bytes:
    try:
        with (folder / NAME).open("rb") as file:
            return file.read(MAX_BYTES + 1)
    except (FileNotFoundError, NotADirectoryError):
        return b""
    except OSError as error:
        raise ConfigFault(f"{NAME} cannot be read: {error.strerror}.") from None
