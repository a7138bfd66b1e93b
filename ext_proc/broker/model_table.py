"""From the call that a client made to the plan of its race: who is asked, by when, under which rules."""

from collections.abc import Iterable, Iterator, Mapping, Sequence, Set
from dataclasses import replace
from typing import TypeVar

from ext_proc.broker.deadline import NOTHING, CallOptions, TimeLimit
from ext_proc.broker.model_entry import ModelEntry, fraction
from ext_proc.broker.plan import AnswerMode, Candidate, Mix, Plan, RankedTarget, members
from ext_proc.broker.resolver import Inspection, NameStep, Resolver
from ext_proc.broker.settings import BrokerSettings, ModelSettings
from ext_proc.errors import CallError, Reason
from ext_proc.wire.call import INFERENCE, Call, Verb
from mesh.node import Node

T = TypeVar("T")

_RACED = INFERENCE - {Verb.STREAM_INFER}


class ModelTable:
    """The `models:` section, resolved. Immutable: a reload builds another one.

    `known` are the names of the models that exist, where they can be listed (see `known_models`): the section may lead
    to no others. Raises ConfigError for a cycle or an unknown name, with the path to it.
    """

    def __init__(
        self, settings: BrokerSettings, models: Mapping[str, ModelSettings], known: Set[str] | None = None
    ) -> None:
        entries = {name: ModelEntry.read(name, model) for name, model in models.items()}
        self._settings = settings
        self._resolver = Resolver(entries)
        self._steering = tuple(sorted(name for name, entry in entries.items() if entry.steers))
        self._names = frozenset(entries)
        self._planned = frozenset(name for name, entry in entries.items() if entry.steers or entry.tells)
        Inspection(entries, settings.max_candidates, known).run()
        self.stateful = frozenset(name for name in entries if self._resolver.is_stateful(name))
        """The names of which the calls may belong to sequences, those of aliases and splits included."""

    @property
    def names(self) -> tuple[str, ...]:
        """The names for which a call may be raced, renamed, copied or bound to a node though no header says so."""
        return tuple(sorted(self.stateful.union(self._steering)))

    def __contains__(self, name: str) -> bool:
        """Whether the section has that name."""
        return name in self._names

    def needs_decision(self, model: str) -> bool:
        """Whether a call that says no more than this name is more than just routed."""
        return model in self._planned or model in self.stateful

    def plan(
        self,
        call: Call,
        options: CallOptions = NOTHING,
        seed: int = 0,
        *,
        bound: bool = False,
        trail: list[NameStep] | None = None,
    ) -> Plan | None:
        """The plan for one call, or None for a plain one, which is routed as it is.

        A plan that neither races nor renames nor copies is that of a call whose node is told something.

        `seed` decides splits of calls without a `tbms-key`, and who is copied to a shadow: any
        number that differs from call to call. A call that is `bound` to a session has one candidate, its primary, and
        no shadow; it has a race only for its limit. `trail` is told by which names the call comes to its candidates.
        Raises CallError(INVALID) for headers that cannot hold.
        """
        if call.model not in self._planned and not options.races:
            return None
        if call.verb in _RACED:
            return self._race(call, options, seed, bound, trail)
        return None if call.verb is Verb.STREAM_INFER else self._renamed(call, options, seed, trail)

    def _renamed(self, call: Call, options: CallOptions, seed: int, trail: list[NameStep] | None) -> Plan | None:
        """Status, metadata and the like: they follow the name, and are never raced."""
        ranks, _ = self._resolver.resolve(_named(call), _key(options, seed), trail)
        model = members(ranks[0])[0]
        if _same(model, call):
            return None
        return Plan(call.model, (model,), self._limit(options, None), races=False)

    def _race(
        self, call: Call, options: CallOptions, seed: int, bound: bool, trail: list[NameStep] | None
    ) -> Plan | None:
        key = _key(options, seed)
        ranks, passed = self._resolver.resolve(_named(call), key, trail)
        configured = _first([entry.limit_ms for entry in passed])
        self._check(options, configured)
        if options.primary is not None:
            ranks = self._resolver.expand(options.primary, key, trail)
        if options.limit is not None and options.limit.estimate_ms is not None:
            ranks = (_estimated(ranks[0], options.limit.estimate_ms), *ranks[1:])
        backups = options.backups
        if bound:
            _check_alone(call, options, ranks[0])
            ranks, backups = ranks[:1], ()
        elif backups is None:
            backups = _first([entry.backups or None for entry in passed]) or ()
        ranks += tuple(one for backup in backups for one in self._resolver.expand(backup, key, trail))
        asked = sum([len(members(rank)) for rank in ranks])
        if asked > self._settings.max_candidates:
            header = "backup" if options.backups is not None else "primary"
            most = self._settings.max_candidates
            raise _invalid(header, f"the call would ask {asked} models; at most {most} are allowed.")
        limit_ms = self._limit(options, configured)
        fallback = _first([entry.fallback.get(call.protocol) for entry in passed])
        races = options.limit is not None if bound else options.races
        races = races or configured is not None or fallback is not None or len(ranks) > 1
        races = races or isinstance(ranks[0], Mix)
        wish = options.limit or TimeLimit(limit_ms)
        plan = Plan(
            model=call.model,
            candidates=ranks,
            limit_ms=limit_ms,
            answer=wish.answer or _first([entry.answer for entry in passed]) or AnswerMode.BEST,
            cross_request=_first((wish.cross_request, *(entry.cross_request for entry in passed))),
            cross_lag_ms=_first((wish.cross_lag_ms, *(entry.cross_lag_ms for entry in passed))),
            priority=_first((wish.priority, *(entry.priority for entry in passed))) or 0,
            shadows=() if bound else tuple(self._shadows(passed, seed)),
            fallback=fallback,
            races=races,
        )
        return plan if races or plan.shadows or plan.tells or not _same(members(ranks[0])[0], call) else None

    def _limit(self, options: CallOptions, configured: float | None) -> float:
        """The earlier of the limit (the client's own before the configured one) and the gRPC deadline.

        A gRPC deadline runs at the client, which gives up by itself: an answer at the last moment would come too late.
        """
        limit = configured if options.limit is None else options.limit.tloc_ms
        deadline = options.grpc_timeout_ms
        if deadline is not None:
            deadline -= min(self._settings.deadline_slack_ms, deadline / 10)
        given = [ms for ms in (limit, deadline, self._settings.max_limit_ms) if ms is not None]
        return min(given)

    def _check(self, options: CallOptions, configured: float | None) -> None:
        """Rules that hold between headers, and between headers and the configuration.

        Estimates are held against the limit that was declared, not against a gRPC deadline: that
        shrinks from hop to hop, and headers that were right must not become wrong on the way.
        """
        limit, most = configured, self._settings.max_limit_ms
        if options.limit is not None:
            limit = options.limit.tloc_ms
            if limit > most:
                raise _invalid("tloc", f"value {limit:g} is over the longest limit accepted, {most:g} ms.")
            if limit and (options.limit.estimate_ms or 0) > limit:
                raise _invalid("tloc", f"value: est={options.limit.estimate_ms:g} is over the limit of {limit:g} ms.")
        primary = () if options.primary is None else (options.primary,)
        for header, targets in (("primary", primary), ("backup", options.backups or ())):
            for where, one in _places(targets):
                if limit and (one.estimate_ms or 0) > limit:
                    raise _invalid(header, f"{where}: est={one.estimate_ms:g} is over the limit of {limit:g} ms.")

    def _shadows(self, passed: Sequence[ModelEntry], seed: int) -> Iterator[Candidate]:
        for entry in passed:
            if entry.shadow is not None:
                if fraction(f"shadow of {entry.name}", str(seed)) < entry.shadow_share:
                    for rank in self._resolver.expand(entry.shadow, str(seed)):
                        yield from members(rank)
                return


def _check_alone(call: Call, options: CallOptions, primary: RankedTarget) -> None:
    """A session sits on one node, with one model. Raises CallError(INVALID) where several are to answer together."""
    if options.primary is not None:
        raise _invalid("primary", "a call of a session asks one model, not a mix.")
    if isinstance(primary, Mix):
        raise CallError(Reason.INVALID, f"Model {call.model} is a mix, which has no sessions.")


def known_models(nodes: Iterable[Node]) -> Set[str] | None:
    """The names of all models of a fleet of fixed sets: what the nodes declare.

    None where nobody can list them: without nodes, or where a node declares none, or tells by a stream what it holds
    (`residency`): it may be asked for any model.
    """
    names: set[str] = set()
    for node in nodes:
        if not node.models or node.residency is not None:
            return None
        names.update(node.models)
    return names or None


def _key(options: CallOptions, seed: int) -> str:
    return f"seed {seed}" if options.key is None else f"key {options.key}"


def _named(call: Call) -> Candidate:
    return Candidate(call.model, call.version, call.label)


def _same(candidate: Candidate, call: Call) -> bool:
    return (candidate.model, candidate.version, candidate.label) == (call.model, call.version, call.label)


def _first(values: Iterable[T | None]) -> T | None:
    for value in values:
        if value is not None:
            return value
    return None


def _estimated(target: RankedTarget, ms: float) -> RankedTarget:
    """The primary with the estimate of `tloc`; in a mix it holds for members that declare none."""
    if isinstance(target, Candidate):
        return replace(target, estimate_ms=ms)
    filled = (replace(one, estimate_ms=ms) if one.estimate_ms is None else one for one in target.members)
    return replace(target, members=tuple(filled))


def _places(targets: Sequence[RankedTarget]) -> Iterator[tuple[str, Candidate]]:
    """Every candidate with its place in the header, for errors."""
    for n, target in enumerate(targets, start=1):
        if isinstance(target, Mix):
            for k, member in enumerate(target.members, start=1):
                yield f"member {n}.{k} ({member.model})", member
        else:
            yield f"member {n} ({target.model})", target


def _invalid(header: str, rule: str) -> CallError:
    return CallError(Reason.INVALID, f"Header {header}: {rule}")
