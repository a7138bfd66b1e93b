"""A folder of policies judged: schemas, Envoy types, and what the patches do to sidecars."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from ext_proc.kuma.checking import rules
from ext_proc.kuma.checking.documents import FORMS, Document, Finding, Folder, read_folder
from ext_proc.kuma.checking.identities import unidentified
from ext_proc.kuma.checking.laying import is_laid
from ext_proc.kuma.checking.proxies import Proxy, may_be_seen, order, read_proxies, selects, takes
from ext_proc.kuma.checking.schemas import Schemas
from ext_proc.kuma.patching.applying import apply
from ext_proc.kuma.patching.envoy_types import EnvoyTypeError
from ext_proc.kuma.patching.modification import Modification, read_modification
from ext_proc.kuma.patching.resources import Resources

PATCH = "MeshProxyPatch"
# From this version on, a patch of circuit breakers is merged by priority (kumahq/kuma pull request 18207).
_KEYED_FROM = (3, 0)
# Kinds that a MeshProxyPatch can select in each version; older ones take many.
_TARGETS_FROM_3 = ("Mesh", "Dataplane")


@dataclass(slots=True)
class Report:
    """What was found, and how much was looked at."""

    findings: list[Finding] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    policies: int = 0
    versions: list[str] = field(default_factory=list)
    configs: int = 0

    def add(self, other: "Report") -> None:
        """Takes another report's into this."""
        self.findings += other.findings
        self.notes += [note for note in other.notes if note not in self.notes]
        self.policies += other.policies
        self.versions += [version for version in other.versions if version not in self.versions]
        self.configs += other.configs

    def __str__(self) -> str:
        parts = [
            _counted(self.policies, "policy", "policies"),
            f"{len(self.versions)} Kuma versions ({', '.join(self.versions)})",
            _counted(self.configs, "sidecar configuration"),
            _counted(len(self.findings), "error"),
        ]
        return f"policies-check: {', '.join(parts)}"


def _counted(count: int, one: str, several: str | None = None) -> str:
    return f"{count} {one if count == 1 else several or one + 's'}"


@dataclass(frozen=True, slots=True)
class Evidence:
    """What policies are judged by: Kuma's schemas, configurations of sidecars or folders of them, and what lays files.

    `beside` are folders of other manifests, `laid` files that, as somebody says, are there before Envoy starts.
    """

    crds: Path | None = None
    configs: Sequence[Path] = ()
    beside: Sequence[Path] = ()
    laid: frozenset[str] = frozenset()


def check(folder: Path, versions: Sequence[str], evidence: Evidence) -> Report:
    """Judges the policies in `folder` for each Kuma version. Every folder may have subfolders for versions.

    Raises SchemaError and ProxyError for what cannot be judged, OSError for what cannot be read.
    """
    report = Report()
    for version in versions:
        _check_version(report, folder, version, evidence)
    report.findings = list(dict.fromkeys(report.findings))
    return report


def _check_version(report: Report, root: Path, version: str, evidence: Evidence) -> None:
    folder = read_folder(root, version)
    around = [folder, *(read_folder(each, version) for each in evidence.beside)]
    report.versions.append(version)
    report.policies += len(folder.documents)
    report.findings += folder.findings
    if not folder.documents:
        report.findings.append(Finding(root, "", "", f"there is no document of Kuma {version} in it"))
    if evidence.crds is not None:
        schemas = Schemas(evidence.crds, version)
        report.findings += [finding for each in folder.documents for finding in schemas.findings(each)]
        report.notes += [
            f"Kuma {version}: {kind} has no schema here, and was not held against one"
            for kind in sorted(schemas.unknown_kinds)
        ]
    report.findings += [finding for each in folder.documents for finding in _plain(each, version)]
    proxies = [proxy for path in evidence.configs for proxy in read_proxies(path, version)]
    report.configs += len(proxies)
    # Both forms say the same to two control planes; one that got both would patch twice.
    for form in FORMS:
        documents = [each for each in folder.documents if each.form == form]
        report.findings += _once(unidentified(documents, [each for each in proxies if takes(form, each)]))
        patches: dict[int, tuple[Document, list[Modification]]] = {}
        for each in documents:
            if each.kind == PATCH:
                modifications = list(_modifications(each, report.findings))
                report.findings += _files(each, modifications, around, evidence.laid)
                patches[id(each)] = (each, modifications)
        if patches:
            services = list(rules.routed_to(documents))
            own = [each for each in proxies if takes(form, each)]
            seen = [each for each in patches.values() if may_be_seen(each[0], own)]
            report.findings += _once(_tried(seen, own, services, keyed=_number(version) >= _KEYED_FROM))
            unseen = [each[0].title for each in patches.values() if own and each not in seen]
            told = (f"Kuma {version}: {title} was tried on nothing: no gateway is among them" for title in unseen)
            report.notes += [note for note in told if note not in report.notes]


def _modifications(policy: Document, findings: list[Finding]) -> Iterator[Modification]:
    items = (policy.spec.get("default") or {}).get("appendModifications") or []
    if not items:
        findings.append(
            policy.finding("spec.default.appendModifications", "a patch without modifications does nothing")
        )
    for index, item in enumerate(items):
        try:
            yield read_modification(item, f"spec.default.appendModifications[{index}]")
        except EnvoyTypeError as error:
            findings.append(policy.finding(error.where, error.what))


def _plain(document: Document, version: str) -> Iterator[Finding]:
    """What can be told of a document alone."""
    if document.kind == "Dataplane":
        networking = document.spec.get("networking") or {}
        if not networking.get("inbound") and not networking.get("gateway"):
            yield document.finding(
                "networking.inbound",
                "a Dataplane without an inbound is selected by no policy; add {port: 49151, name: none}",
            )
    if document.kind == PATCH:
        target = document.spec.get("targetRef") or {}
        if target.get("sectionName"):
            yield document.finding("spec.targetRef.sectionName", "a MeshProxyPatch selects whole proxies")
        if _number(version) >= (3, 0) and target.get("kind", "Mesh") not in _TARGETS_FROM_3:
            yield document.finding(
                "spec.targetRef.kind",
                f"Kuma {version} selects by {' and '.join(_TARGETS_FROM_3)}, not {target.get('kind')}",
            )


def _files(
    policy: Document, modifications: list[Modification], folders: Sequence[Folder], laid: frozenset[str]
) -> Iterator[Finding]:
    for each in modifications:
        for path in rules.watched_files(each):
            if path not in laid and not any(is_laid(path, each, policy.form) for each in folders):
                yield policy.finding(
                    f"{each.where}.value",
                    f"{path} may not be there when Envoy reads the listener, and then Envoy refuses all of it: lay "
                    "an empty map by an init container, tmpfiles.d or a unit here or in a folder --beside, or say "
                    "--laid where somebody else does",
                )


def _tried(
    patches: list[tuple[Document, list[Modification]]],
    proxies: list[Proxy],
    services: list[rules.Service],
    *,
    keyed: bool,
) -> Iterator[Finding]:
    """What the patches do to each proxy that they select, together and in Kuma's order."""
    patches = sorted(patches, key=lambda each: order(each[0]))
    used: set[int] = set()
    idle: dict[int, list[Finding]] = {}
    for proxy in proxies:
        resources, tried = proxy.resources(), []
        for policy, modifications in patches:
            chosen = selects(policy, proxy)
            if chosen is None and (missed := _missed(policy, modifications, proxy, keyed)) is not None:
                # The one that it fits best is what it may be meant for.
                idle[id(policy)] = min(idle.get(id(policy), missed), missed, key=len)
                continue
            if chosen is False:
                continue
            try:
                effects = apply(modifications, resources, keyed=keyed)
            except EnvoyTypeError as error:
                yield policy.finding(
                    error.where, f"the control plane cannot apply it to {proxy.file.name}: {error.what}"
                )
                used.add(id(policy))
                continue
            own = [rules.Tried(policy, effect, str(proxy.file)) for effect in effects]
            tried += own
            found = list(rules.idle(own, resources))
            whole_mesh = (policy.spec.get("targetRef") or {}).get("kind", "Mesh") == "Mesh"
            if whole_mesh and found:
                # It selects proxies of every kind: one of them has to be changed.
                idle.setdefault(id(policy), found)
                continue
            used.add(id(policy))
            yield from found
        yield from rules.holes(tried, resources)
        yield from _broken(tried, resources, proxy, services)
    for policy, _ in patches:
        if proxies and id(policy) not in used:
            yield from idle.get(id(policy)) or [policy.finding("spec.targetRef", _selects_nothing(policy, proxies))]


def _broken(
    tried: list[rules.Tried], resources: Resources, proxy: Proxy, services: list[rules.Service]
) -> Iterator[Finding]:
    if not tried:
        return
    before = set(rules.broken(proxy.resources(), str(proxy.file)))
    for where, what in rules.broken(resources, str(proxy.file), services):
        if (where, what) not in before:
            yield tried[-1].policy.finding(where, what)


def _missed(policy: Document, modifications: list[Modification], proxy: Proxy, keyed: bool) -> list[Finding] | None:
    """All that changes nothing on a proxy, where nothing of the policy changes it; None where something does.

    A cluster or listener that is added any proxy takes, so it tells nothing of a policy that does more than that.
    """
    resources = proxy.resources()
    try:
        effects = apply(modifications, resources, keyed=keyed)
    except EnvoyTypeError:
        return None
    telling = [each for each in effects if not _adds_a_whole(each.modification)] or effects
    if any(each.changed for each in telling):
        return None
    return list(rules.idle([rules.Tried(policy, each, str(proxy.file)) for each in effects], resources))


def _adds_a_whole(modification: Modification) -> bool:
    return modification.kind in ("cluster", "listener") and modification.operation == "Add"


def _selects_nothing(policy: Document, proxies: list[Proxy]) -> str:
    labels = [each.labels for each in proxies if each.labels is not None]
    wanted = policy.spec.get("targetRef") or {}
    said = [", ".join(f"{name}={value}" for name, value in sorted(each.items())) for each in labels]
    return f"{wanted} selects none of the proxies; their labels: {' | '.join(dict.fromkeys(said))}"


def _once(findings: Iterable[Finding]) -> Iterator[Finding]:
    """One finding for each place: what is wrong in one sidecar is so in others alike."""
    places: dict[tuple[Path, str, str], list[Finding]] = {}
    for each in findings:
        places.setdefault((each.file, each.document, each.where), []).append(each)
    for first, *others in places.values():
        more = f" (and in {len(others)} more)" if others else ""
        yield replace(first, what=first.what + more)


def _number(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in version.split("."))
