"""Whether something in a folder of manifests lays a file before Envoy starts.

Looked for: an init container (of a pod, or one that a ContainerPatch changes), a command of the sidecar itself by a
ContainerPatch, a line of tmpfiles.d, a unit of systemd that starts before Envoy's, or a line of a unit that runs before
its main process. That the command does what its words
say is not judged.
"""

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from ext_proc.contract import KNOWN_MAP_SUFFIX
from ext_proc.kuma.checking.documents import Folder, Form

_TMPFILES = re.compile(r"^[fFCwL]\+?[!\-=~^]*\s+(\S+)", re.MULTILINE)
_UNIT_LINE = re.compile(r"^ExecStartPre=(.*)$", re.MULTILINE)
_COMMAND = "tbms known-map"
_BEFORE = re.compile(r"^Before=.*\b(kuma-dp|envoy)", re.MULTILINE)


def is_laid(path: str, folder: Folder, form: Form) -> bool:
    """Whether some manifest (Kubernetes) or file (machines) of the folder lays it."""
    if form == "kubernetes":
        bodies = [body for _, body in folder.others] + [each.body for each in folder.documents]
        return any(path in text for body in bodies for text in _first_containers(body))
    return any(_lays(path, file, text, folder) for file, text in folder.texts)


def _lays(path: str, file: Path, text: str, folder: Folder) -> bool:
    if path in _TMPFILES.findall(text) or (_BEFORE.search(text) and path in text):
        return True
    first = _UNIT_LINE.findall(text)
    # `tbms known-map` lays what its configuration names, or what lies beside the socket that it names.
    socket = path.removesuffix(KNOWN_MAP_SUFFIX)
    configured = any(socket in str(body) for beside, body in folder.others if beside.parent == file.parent)
    return any(path in line or (_COMMAND in line and configured) for line in first)


def _first_containers(value: Any) -> Iterator[str]:
    """The words of the init containers in a manifest."""
    if isinstance(value, Mapping):
        for name, each in value.items():
            if name in ("initContainers", "initPatch"):
                yield from _words(each)
            elif name == "sidecarPatch" and isinstance(each, list):
                yield from _words([patch for patch in each if _is_command(patch)])
            else:
                yield from _first_containers(each)
    elif isinstance(value, list):
        for each in value:
            yield from _first_containers(each)


def _is_command(patch: Any) -> bool:
    return isinstance(patch, Mapping) and patch.get("path") in ("/command", "/args")


def _words(value: Any) -> Iterator[str]:
    if isinstance(value, Mapping):
        for each in value.values():
            yield from _words(each)
    elif isinstance(value, list):
        for each in value:
            yield from _words(each)
    elif isinstance(value, str):
        yield value
