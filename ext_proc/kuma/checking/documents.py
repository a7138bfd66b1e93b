"""The documents in a folder of manifests: Kuma's in both forms, and what stands beside them."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import yaml

from ext_proc.kuma.checking.versions import of_version

Form = Literal["kubernetes", "universal"]
FORMS: tuple[Form, ...] = ("kubernetes", "universal")
_ENDINGS = (".yaml", ".yml", ".json")
_GROUP = "kuma.io/"
# A larger one is no policy; every file of the folder is looked at.
_READ_AT_MOST = 4 << 20


@dataclass(frozen=True, slots=True)
class Finding:
    """Something wrong: in which file, in which document, where in it, and what."""

    file: Path
    document: str
    where: str
    what: str

    def __str__(self) -> str:
        place = " ".join(part for part in (self.document, self.where) if part)
        return f"{self.file}: {place}: {self.what}" if place else f"{self.file}: {self.what}"


@dataclass(frozen=True, slots=True)
class Document:
    """One of Kuma's documents: a resource as `kubectl` or `kumactl` applies it."""

    file: Path
    form: Form
    kind: str
    name: str
    body: Mapping[str, Any]

    @property
    def spec(self) -> Mapping[str, Any]:
        """What it says; of Dataplane, Mesh and others of the universal form the document itself."""
        spec = self.body.get("spec", self.body if self.form == "universal" else None)
        return spec if isinstance(spec, Mapping) else {}

    @property
    def title(self) -> str:
        """How findings call it."""
        return f"{self.kind} {self.name}"

    def finding(self, where: str, what: str) -> Finding:
        """Something wrong in it."""
        return Finding(self.file, self.title, where, what)


@dataclass(frozen=True, slots=True)
class Folder:
    """What was read: Kuma's documents, other documents (Kubernetes' own), other files, and what could not be read."""

    documents: tuple[Document, ...]
    others: tuple[tuple[Path, Any], ...]
    texts: tuple[tuple[Path, str], ...]
    findings: tuple[Finding, ...]


def read_folder(root: Path, version: str) -> Folder:
    """Reads every file under a folder that is for a version, in the order of their names.

    Raises OSError where a folder or file cannot be read.
    """
    if not root.is_dir():
        raise NotADirectoryError(f"{root} is no folder")
    documents: list[Document] = []
    others: list[tuple[Path, Any]] = []
    texts: list[tuple[Path, str]] = []
    findings: list[Finding] = []
    for file in of_version(root, sorted(each for each in root.rglob("*") if each.is_file()), version):
        try:
            if file.stat().st_size > _READ_AT_MOST:
                continue
            text = file.read_text(encoding="utf-8")
        except UnicodeDecodeError:
            continue
        if file.suffix not in _ENDINGS:
            texts.append((file, text))
            continue
        try:
            bodies = [body for body in yaml.load_all(text, _Loader) if body is not None]
        except yaml.YAMLError as error:
            findings.append(Finding(file, "", "", f"no YAML: {' '.join(str(error).split())}"))
            continue
        for body in _unpacked(bodies):
            found = _document(file, body)
            if found is None:
                others.append((file, body))
            else:
                documents.append(found)
    return Folder(tuple(documents), tuple(others), tuple(texts), tuple(findings))


def _unpacked(bodies: list[Any]) -> Iterator[Any]:
    for body in bodies:
        if isinstance(body, Mapping) and body.get("kind") == "List" and isinstance(body.get("items"), list):
            yield from body["items"]
        else:
            yield body


def _document(file: Path, body: Any) -> Document | None:
    if not isinstance(body, Mapping):
        return None
    metadata = body.get("metadata")
    if str(body.get("apiVersion", "")).startswith(_GROUP):
        name = metadata.get("name", "") if isinstance(metadata, Mapping) else ""
        return Document(file, "kubernetes", str(body.get("kind", "")), str(name), body)
    if "type" in body and "apiVersion" not in body:
        return Document(file, "universal", str(body["type"]), str(body.get("name", "")), body)
    return None


class _Loader(getattr(yaml, "CSafeLoader", yaml.SafeLoader)):  # type: ignore[misc]
    """Refuses a key that is there twice: YAML's own loader would take the second in silence."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen = set()
        for key, _ in node.value:
            if isinstance(key, yaml.ScalarNode) and key.tag != "tag:yaml.org,2002:merge":
                if key.value in seen:
                    raise yaml.constructor.ConstructorError(None, None, f"{key.value!r} is there twice", key.start_mark)
                seen.add(key.value)
        found: dict[Any, Any] = super().construct_mapping(node, deep)
        return found
