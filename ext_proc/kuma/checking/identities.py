"""Identities that a proxy could not get, since they are made from a workload that it does not name.

Source: kumahq/kuma, pkg/xds/server/callbacks/workload_label_validator.go and the BestMatched of MeshIdentity, from 2.13
on: such a proxy is refused when it connects.
"""

import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from ext_proc.kuma.checking.documents import Document, Finding
from ext_proc.kuma.checking.proxies import Proxy

_LABEL = "kuma.io/workload"
_FROM_WORKLOAD = re.compile(r'\{\{\s*(\.Workload|label\s+"kuma\.io/workload")\s*\}\}')


def unidentified(documents: Iterable[Document], proxies: Iterable[Proxy]) -> Iterator[Finding]:
    """Proxies, and Dataplanes among the documents, without the workload that the MeshIdentity which selects them needs.

    The documents are of one form; proxies whose labels are not known are passed over.
    """
    documents = list(documents)
    identities = [each for each in documents if each.kind == "MeshIdentity"]
    known = [(str(each.file), each.labels) for each in proxies if each.labels is not None]
    known += [(each.title, _mapping(each.body.get("labels"))) for each in documents if each.kind == "Dataplane"]
    for who, labels in known:
        identity = _best(identities, labels)
        if identity is not None and _is_from_workload(identity) and not labels.get(_LABEL):
            yield identity.finding(
                "spec.spiffeID.path",
                f"{who} has no label {_LABEL}, from which its identity is made: the control plane would refuse it when "
                "it connects the next time",
            )


def _best(identities: list[Document], labels: Mapping[str, Any]) -> Document | None:
    """The one that selects most exactly; of equal ones that with the first name."""
    selecting = [each for each in identities if _selects(each, labels)]
    return min(selecting, key=lambda each: (-len(_wanted(each)), each.name), default=None)


def _selects(identity: Document, labels: Mapping[str, Any]) -> bool:
    # A selector that is not there selects nothing, an empty one everything.
    if _mapping(identity.spec.get("selector")).get("dataplane") is None:
        return False
    return all(labels.get(name) == value for name, value in _wanted(identity).items())


def _wanted(identity: Document) -> Mapping[str, Any]:
    return _mapping(_mapping(_mapping(identity.spec.get("selector")).get("dataplane")).get("matchLabels"))


def _is_from_workload(identity: Document) -> bool:
    path = _mapping(identity.spec.get("spiffeID")).get("path")
    if path is None:
        return identity.form == "universal"
    return _FROM_WORKLOAD.search(str(path)) is not None


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}
