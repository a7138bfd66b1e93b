"""Documents against the schemas of one Kuma version, unknown fields refused.

The schemas are Kuma's own files: the CRDs (`deployments/charts/kuma/crds` of its sources, or `kubectl get crds -o yaml`
of a cluster), and `openapi.yaml` for the few resources whose CRD takes anything (Dataplane, Mesh). tbms ships none.
"""

import json
from collections.abc import Iterator, Mapping
from difflib import get_close_matches
from functools import cache
from pathlib import Path
from typing import Any

import yaml
from jsonschema import Draft202012Validator
from jsonschema.exceptions import ValidationError
from referencing import Registry
from referencing.jsonschema import DRAFT202012

from ext_proc.errors import TbmsError
from ext_proc.kuma.checking.documents import Document, Finding
from ext_proc.kuma.checking.versions import of_version

_OPEN = "x-kubernetes-preserve-unknown-fields"
_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_OPENAPI = "urn:kuma:openapi"
# What `kumactl` takes beside `spec`.
_UNIVERSAL = {
    "type": {"type": "string"},
    "mesh": {"type": "string"},
    "name": {"type": "string"},
    "labels": {"type": "object", "additionalProperties": {"type": "string"}},
}


class SchemaError(TbmsError):
    """No schemas where they were looked for, or none that can be read."""


class Schemas:
    """The schemas of one version. `unknown_kinds` are kinds of documents that had none."""

    def __init__(self, folder: Path, version: str) -> None:
        """Reads the schemas of a version in a folder (see `of_version`), or those in a file. Raises SchemaError."""
        self.unknown_kinds: set[str] = set()
        files = [folder] if folder.is_file() else of_version(folder, sorted(folder.rglob("*.yaml")), version)
        self._crds: dict[str, Mapping[str, Any]] = {}
        self._openapi: Path | None = None
        self._validators: dict[tuple[str, str], Draft202012Validator | None] = {}
        self._registry: Registry[Any] = Registry()
        for file in files:
            if file.name == "openapi.yaml":
                self._openapi = file
            else:
                self._crds |= dict(_crds(file))
        if not self._crds:
            raise SchemaError(f"{folder}: there are no CRDs of Kuma {version} in it")

    def findings(self, document: Document) -> Iterator[Finding]:
        """What is wrong with a document by its schema."""
        key = (document.kind, document.form)
        if key not in self._validators:
            self._validators[key] = self._validator(document)
        validator = self._validators[key]
        if validator is None:
            if document.kind not in self._crds:
                yield document.finding(
                    "", f"this version of Kuma has no {document.kind}{_near(document.kind, self._crds)}"
                )
            else:
                self.unknown_kinds.add(document.kind)
            return
        body = json.loads(json.dumps(document.body, default=str))
        for error in sorted(validator.iter_errors(body), key=lambda each: list(map(str, each.absolute_path))):
            yield from (document.finding(where, what) for where, what in _told(error))

    def _validator(self, document: Document) -> Draft202012Validator | None:
        crd = self._crds.get(document.kind)
        if crd is None:
            return None
        spec = crd.get("properties", {}).get("spec", {})
        if not spec.get(_OPEN):
            if document.form == "kubernetes":
                return Draft202012Validator(_closed(crd))
            top = {**_UNIVERSAL, "spec": spec}
            return Draft202012Validator(_closed({"type": "object", "required": ["type", "name"], "properties": top}))
        item = self._item(document.kind)
        if item is None:
            return None
        if document.form == "universal":
            return Draft202012Validator({"$ref": item}, registry=self._registry)
        # The same message stands in `spec`, without what Kubernetes says in `metadata`.
        top = {**crd["properties"], "mesh": {"type": "string"}, "spec": {"$ref": item}}
        return Draft202012Validator(
            {"type": "object", "properties": top, "additionalProperties": False}, registry=self._registry
        )

    def _item(self, kind: str) -> str | None:
        """Where the schema of a kind stands in openapi.yaml, which is read when it is first needed."""
        if self._openapi is None:
            return None
        if _OPENAPI not in self._registry:
            closed = {"components": {"schemas": _items(self._openapi)}}
            self._registry = self._registry.with_resource(_OPENAPI, DRAFT202012.create_resource(closed))
        known = self._registry.contents(_OPENAPI)["components"]["schemas"]
        return f"{_OPENAPI}#/components/schemas/{kind}Item" if f"{kind}Item" in known else None


@cache
def _crds(file: Path) -> tuple[tuple[str, Mapping[str, Any]], ...]:
    """The kinds that the CRDs of a file define, and the schema of each."""
    try:
        bodies = list(yaml.load_all(file.read_bytes(), _LOADER))
    except (OSError, yaml.YAMLError) as error:
        raise SchemaError(f"{file}: {' '.join(str(error).split())}") from None
    return tuple(_schema(each) for body in bodies for each in _unpacked(body) if _is_crd(each))


@cache
def _items(file: Path) -> Mapping[str, Any]:
    """The schemas of an openapi.yaml, closed."""
    schemas = yaml.load(file.read_bytes(), _LOADER)["components"]["schemas"]  # noqa: S506
    return {name: _closed(each) for name, each in schemas.items()}


def _unpacked(body: Any) -> list[Any]:
    return body.get("items", [body]) if isinstance(body, Mapping) else []


def _is_crd(body: Any) -> bool:
    is_one = isinstance(body, Mapping) and body.get("kind") == "CustomResourceDefinition"
    return is_one and body["spec"]["group"] == "kuma.io"


def _schema(crd: Mapping[str, Any]) -> tuple[str, Mapping[str, Any]]:
    return crd["spec"]["names"]["kind"], crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"]


def _closed(schema: Any, *, within_choice: bool = False) -> Any:
    """A schema that refuses every field that it does not name, but where Kuma takes any."""
    if isinstance(schema, list):
        return [_closed(each, within_choice=within_choice) for each in schema]
    if not isinstance(schema, Mapping):
        return schema
    named = isinstance(schema.get("properties"), Mapping)
    found: dict[str, Any] = {}
    for key, each in schema.items():
        if key == "properties" and named:
            found[key] = {name: _closed(value) for name, value in each.items()}
        elif key == "$ref":
            found[key] = f"{_OPENAPI}{each}" if str(each).startswith("#") else each
        elif key in ("oneOf", "anyOf", "allOf", "not"):
            # A choice beside properties says which of them go together, and not which there are.
            found[key] = _closed(each, within_choice=within_choice or named)
        elif key in ("items", "additionalProperties"):
            found[key] = _closed(each)
        else:
            found[key] = each
    if named and not within_choice and "additionalProperties" not in found and not found.get(_OPEN):
        found["additionalProperties"] = False
    if found.get("nullable") and isinstance(found.get("type"), str):
        found["type"] = [found["type"], "null"]
    return found


def _told(error: ValidationError) -> Iterator[tuple[str, str]]:
    """Where and what, in our words."""
    path = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in error.absolute_path).lstrip(".")
    if error.validator == "additionalProperties" and isinstance(error.instance, Mapping):
        known = error.schema.get("properties", {}) if isinstance(error.schema, Mapping) else {}
        for name in error.instance:
            if name not in known:
                yield f"{path}.{name}".lstrip("."), f"there is no such field{_near(str(name), known)}"
        return
    if error.context:
        yield path, f"none of the choices fits: {'; '.join(dict.fromkeys(each.message for each in error.context))}"
        return
    yield path, error.message


def _near(name: str, known: Mapping[str, object]) -> str:
    near = get_close_matches(name, list(known), n=1, cutoff=0.7)
    return f"; {near[0]} is meant, perhaps" if near else ""
