"""Sidecar configurations that policies are tried on, and which policies select which.

A configuration is what `GET /meshes/{mesh}/dataplanes/{name}/_config` answers, in a file NAME.json. The labels by
which a policy selects it come from `overview.json` beside it (`GET /meshes/{mesh}/dataplanes/_overview`); without them
a policy is taken to select every proxy on which it would change something that is there.
"""

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ext_proc.errors import TbmsError
from ext_proc.kuma.checking.documents import Document, Form
from ext_proc.kuma.checking.versions import of_version
from ext_proc.kuma.patching.envoy_types import EnvoyTypeError
from ext_proc.kuma.patching.resources import GATEWAY, Resources

OVERVIEW = "overview.json"
_URL = "type.googleapis.com/"
_DISPLAY_NAME = "kuma.io/display-name"
_GATEWAY = "MeshGateway"
_ENVIRONMENT = "kuma.io/env"


class ProxyError(TbmsError):
    """A file is no configuration of a sidecar."""


@dataclass(frozen=True, slots=True)
class Proxy:
    """One sidecar: its file, its configuration (JSON, read anew for each try), and its labels, None where unknown."""

    file: Path
    config: Mapping[str, Any]
    labels: Mapping[str, str] | None

    def resources(self) -> Resources:
        """Its resources, without patches."""
        return Resources(self.config)


def read_proxies(path: Path, version: str) -> list[Proxy]:
    """The configurations in a file, or in all files of a folder that are for a version. Raises ProxyError.

    Of NAME.before.json and NAME.after.json the first is taken: what a sidecar has without patches.
    """
    if not path.is_dir():
        return [_proxy(path, _json(path), {})]
    found, overviews = [], {}
    for file in of_version(path, sorted(path.rglob("*.json")), version):
        if file.name.endswith(".after.json"):
            continue
        document = _json(file)
        if file.name == OVERVIEW:
            overviews[file.parent] = dict(_labels(document))
        elif _is_config(document):
            found.append((file, document))
    if not found:
        raise ProxyError(f"{path}: no configuration of a sidecar of Kuma {version} is in it")
    return [_proxy(file, document, overviews.get(file.parent, {})) for file, document in found]


def may_be_seen(policy: Document, proxies: Iterable[Proxy]) -> bool:
    """Whether there is any proxy of the kind that a policy selects, so that it can be judged by them."""
    kind = (policy.spec.get("targetRef") or {}).get("kind")
    return kind != _GATEWAY or any(selects(policy, each) for each in proxies)


def takes(form: Form, proxy: Proxy) -> bool:
    """Whether a proxy's control plane takes documents of this form; both where that is not known."""
    return proxy.labels is None or proxy.labels.get(_ENVIRONMENT, form) == form


def selects(policy: Document, proxy: Proxy) -> bool | None:
    """Whether a policy's targetRef selects a proxy; None where the labels of the proxy are not known."""
    target = policy.spec.get("targetRef") or {"kind": "Mesh"}
    wanted = target.get("labels") or {}
    if target.get("kind") == "Mesh" and not wanted:
        return True
    if target.get("kind") == _GATEWAY:
        return any(each.origin == GATEWAY for each in proxy.resources().listeners.values())
    if proxy.labels is None:
        return None
    if target.get("kind") == "Dataplane" and target.get("name"):
        return bool(target["name"] in (proxy.file.name.partition(".")[0], proxy.labels.get(_DISPLAY_NAME)))
    wanted = {**wanted, **(target.get("tags") or {})}
    return all(proxy.labels.get(name) == value for name, value in wanted.items())


def order(policy: Document) -> tuple[int, int, str]:
    """Where a policy stands among those that select a proxy: the more exactly it selects, the later it is applied."""
    target = policy.spec.get("targetRef") or {}
    kind = 0 if target.get("kind", "Mesh") == "Mesh" else 1
    return (kind, len(target.get("labels") or {}) + bool(target.get("name")), policy.name)


def _proxy(file: Path, document: Any, labels: Mapping[str, Mapping[str, str]]) -> Proxy:
    proxy = Proxy(file, document, labels.get(file.name.partition(".")[0]))
    try:
        proxy.resources()
    except EnvoyTypeError as error:
        raise ProxyError(f"{file}: {error}") from None
    return proxy


def _is_config(document: Any) -> bool:
    resources = document.get("xds", document) if isinstance(document, Mapping) else None
    return isinstance(resources, Mapping) and any(str(key).startswith(_URL) for key in resources)


def _labels(document: Any) -> Iterator[tuple[str, Mapping[str, str]]]:
    """The labels of each proxy of an overview, by its name and by the name that its owner gave it."""
    items = document.get("items", []) if isinstance(document, Mapping) else document
    for item in items if isinstance(items, list) else []:
        labels = {**_tags(item), **(item.get("labels") or {})}
        yield item["name"], labels
        if shown := labels.get(_DISPLAY_NAME):
            yield shown, labels


def _tags(item: Mapping[str, Any]) -> dict[str, str]:
    networking = (item.get("dataplane") or {}).get("networking") or {}
    return {name: value for each in networking.get("inbound") or () for name, value in (each.get("tags") or {}).items()}


def _json(file: Path) -> Any:
    try:
        return json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ProxyError(f"{file}: {error}") from None
