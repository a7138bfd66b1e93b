"""Whether something in a folder of manifests lays a file before Envoy starts.

Looked for: an init container (of a pod, or one that a ContainerPatch adds), a line of tmpfiles.d, a unit of systemd
that starts before Envoy's, or a line of a unit that runs before its main process. That the command does what its words
say is not judged.
"""

import re
from collections.abc import Iterator, Mapping
from typing import Any

from ext_proc.kuma.checking.documents import Folder

_TMPFILES = re.compile(r"^[fFCwL]\+?[!\-=~^]*\s+(\S+)", re.MULTILINE)
_UNIT_LINE = re.compile(r"^ExecStartPre=(.*)$", re.MULTILINE)
_BEFORE = re.compile(r"^Before=.*\b(kuma-dp|envoy)", re.MULTILINE)


def is_laid(path: str, folder: Folder) -> bool:
    """Whether some manifest or file of the folder lays it."""
    for _, text in folder.texts:
        if path in _TMPFILES.findall(text) or any(path in line for line in _UNIT_LINE.findall(text)):
            return True
        if _BEFORE.search(text) and path in text:
            return True
    bodies = [body for _, body in folder.others] + [each.body for each in folder.documents]
    return any(path in text for body in bodies for text in _first_containers(body))


def _first_containers(value: Any) -> Iterator[str]:
    """The words of the init containers in a manifest."""
    if isinstance(value, Mapping):
        for name, each in value.items():
            if name in ("initContainers", "initPatch"):
                yield from _words(each)
            else:
                yield from _first_containers(each)
    elif isinstance(value, list):
        for each in value:
            yield from _first_containers(each)


def _words(value: Any) -> Iterator[str]:
    if isinstance(value, Mapping):
        for each in value.values():
            yield from _words(each)
    elif isinstance(value, list):
        for each in value:
            yield from _words(each)
    elif isinstance(value, str):
        yield value
