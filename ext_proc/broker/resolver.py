"""Follows names to models: aliases, labels, splits, and virtual models inside virtual models."""

from collections.abc import Mapping, Set
from dataclasses import replace
from difflib import get_close_matches
from typing import Literal, NamedTuple

from ext_proc.broker.model_entry import ModelEntry
from ext_proc.broker.plan import Candidate, How, Mix, RankedTarget, members
from ext_proc.errors import CallError, ConfigError, Reason

_MAX_DEPTH = 32


class NameStep(NamedTuple):
    """One step from a name to what it stands for. `among` are all sides of a split."""

    name: str
    kind: Literal["alias", "label", "split", "virtual"]
    leads_to: str
    among: tuple[Candidate, ...] = ()


class Resolver:
    """Resolves candidates against the configured entries; a name without an entry is a model of some node."""

    def __init__(self, entries: Mapping[str, ModelEntry]) -> None:
        self._entries = entries

    def resolve(
        self, candidate: Candidate, key: str, trail: list[NameStep] | None = None
    ) -> tuple[tuple[RankedTarget, ...], list[ModelEntry]]:
        """The ranked models behind a name, and the entries that the way led through, the named one first.

        `key` decides splits; `trail` is told every step, where somebody wants to know. Raises CallError(INVALID) where
        a virtual model is asked for a version.
        """
        passed = []
        while (entry := self._entries.get(candidate.model)) is not None:
            passed.append(entry)
            named, candidate = candidate, entry.fill(candidate)
            if trail is not None and named.label != candidate.label:
                trail.append(NameStep(named.title, "label", candidate.title))
            if targets := entry.leads_to(candidate):
                candidate = entry.side(targets, key)
                if trail is not None:
                    kind: Literal["alias", "split"] = "alias" if entry.alias is not None else "split"
                    trail.append(NameStep(entry.name, kind, candidate.title, entry.split))
                continue
            if entry.virtual:
                if candidate.version is not None or candidate.label is not None:
                    raise CallError(Reason.INVALID, f"Model {entry.name} is virtual: it has no versions and no labels.")
                if trail is not None:
                    trail.append(NameStep(entry.name, "virtual", ", ".join(one.title for one in entry.virtual)))
                return tuple(one for target in entry.virtual for one in self.expand(target, key, trail)), passed
            break
        return (candidate,), passed

    def is_stateful(self, name: str) -> bool:
        """Whether a call of that name may be for a model that the configuration calls stateful."""
        ahead, seen = [Candidate(name)], set[Candidate]()
        while ahead:
            candidate = ahead.pop()
            entry = self._entries.get(candidate.model)
            if entry is None or candidate in seen:
                continue
            if entry.stateful:
                return True
            seen.add(candidate)
            ahead += entry.leads_to(entry.fill(candidate))
            if entry.virtual:
                ahead += members(entry.virtual[0])
        return False

    def expand(self, target: RankedTarget, key: str, trail: list[NameStep] | None = None) -> tuple[RankedTarget, ...]:
        """The ranked models behind a target; a virtual model gives several ranks, a mix always one."""
        if isinstance(target, Candidate):
            return self.resolve(target, key, trail)[0]
        inside: list[Candidate] = []
        for member in target.members:
            ranks, _ = self.resolve(member, key, trail)
            first = ranks[0]
            if len(ranks) > 1 or (isinstance(first, Mix) and first.how is not target.how):
                raise CallError(Reason.INVALID, _cannot_mix(member.model, target.how))
            if isinstance(first, Mix):
                share = member.weight / sum(one.weight for one in first.members)
                inside.extend(replace(one, weight=one.weight * share) for one in first.members)
            else:
                inside.append(replace(first, weight=member.weight))
        return (Mix(tuple(inside), target.how),)


class Inspection:
    """Proves that every configured name leads somewhere, without a cycle, to at most `max_candidates` models.

    `known` are the names of the models that exist (None: nobody can list them); names with an entry are known as well.
    """

    def __init__(self, entries: Mapping[str, ModelEntry], max_candidates: int, known: Set[str] | None) -> None:
        self._entries = entries
        self._most = max_candidates
        self._known = known
        self._done: dict[tuple[Candidate, How | None], int] = {}

    def run(self) -> None:
        """Raises ConfigError that names the path to the fault."""
        for name, entry in self._entries.items():
            place = (f"models.{name}",)
            count = self._count(Candidate(name), None, place, frozenset())
            for n, backup in enumerate(entry.backups):
                count += self._count_target(backup, None, (*place, f"backups[{n}]"), frozenset())
                self._few(count, place)
            if entry.shadow is not None and self._count(entry.shadow, None, (*place, "shadow"), frozenset()) > 1:
                raise ConfigError(f"models.{name}.shadow: a copy goes to one model, {entry.shadow.model} is a list.")

    def _count_target(self, target: RankedTarget, how: How | None, trail: tuple[str, ...], seen: frozenset[str]) -> int:
        if isinstance(target, Candidate):
            return self._count(target, how, trail, seen)
        if how is not None and target.how is not how:
            raise ConfigError(f"{_path(trail)}: {_cannot_mix(target.title, how)}")
        return sum(self._count(member, target.how, trail, seen) for member in target.members)

    def _count(self, candidate: Candidate, how: How | None, trail: tuple[str, ...], seen: frozenset[str]) -> int:
        """The most models that this name can ask at once.

        `how` is the kind of the mix around it, `trail` the way to it in words, `seen` the names on that way.
        """
        title = candidate.title
        trail = (*trail, title)
        if title in seen:
            raise ConfigError(f"{_path(trail)}: the names lead in a cycle.")
        if len(seen) >= _MAX_DEPTH:
            raise ConfigError(f"{_path(trail)}: the names lead deeper than {_MAX_DEPTH} levels.")
        known = (replace(candidate, estimate_ms=None, weight=1.0), how)
        if known in self._done:
            return self._done[known]
        entry = self._entries.get(candidate.model)
        count = 1
        if entry is None:
            if self._known is not None and candidate.model not in self._known:
                raise ConfigError(f"{_path(trail)}: no model of this name is known{self._nearest(candidate.model)}.")
        elif targets := entry.leads_to(entry.fill(candidate)):
            count = max(self._count(target, how, trail, seen | {title}) for target in targets)
        elif entry.virtual:
            if candidate.version is not None or candidate.label is not None:
                raise ConfigError(f"{_path(trail)}: a virtual model has no versions and no labels.")
            if how is not None and len(entry.virtual) > 1:
                raise ConfigError(f"{_path(trail)}: {_cannot_mix(candidate.model, how)}")
            count = 0
            for target in entry.virtual:
                count += self._count_target(target, how, trail, seen | {title})
                self._few(count, trail)
        self._done[known] = count
        return count

    def _nearest(self, model: str) -> str:
        nearest = get_close_matches(model, sorted({*self._entries, *(self._known or ())}), n=1)
        return (
            f"; the nearest name that a node declares, or that has a section here, is {nearest[0]}" if nearest else ""
        )

    def _few(self, count: int, trail: tuple[str, ...]) -> None:
        if count > self._most:
            raise ConfigError(f"{_path(trail)}: asks {count} or more models at once; at most {self._most} are allowed.")


def _cannot_mix(name: str, how: How) -> str:
    return f"{name} cannot be a member of a mix={how}: a member is one model, or a mix of the same kind."


def _path(trail: tuple[str, ...]) -> str:
    return " -> ".join(trail)
