"""What names a model to the cache, and the one rule of names (`mesh.names`) as the cache's own error."""

from typing import NamedTuple

from mesh.model_cache.errors import BadName
from mesh.names import MAX_VERSION as MAX_VERSION
from mesh.names import fault_sentence, name_fault, quoted, version_fault

LATEST = "latest"
"""The label that every model has: its newest version in the store."""


class Key(NamedTuple):
    """One version of one model: the unit that is fetched, loaded and unloaded."""

    model: str
    version: int

    def __str__(self) -> str:
        return f"{self.model}:{self.version}"


def check_name(name: str, part: str = "model name") -> str:
    """The name, if it may be one, and so is safe as the name of one folder. Raises BadName that calls it by `part`."""
    fault = name_fault(name)
    if fault is None:
        return name
    raise BadName(fault_sentence(part, name, fault))


def check_version(version: int | str) -> int:
    """The version as a number. Raises BadName."""
    text = str(version)
    fault = version_fault(text)
    if fault is None:
        return int(text)
    raise BadName(f"The model version {quoted(text)} {fault}.")
