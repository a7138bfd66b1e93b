"""From the call that a client made to the plan of its race: who is asked, by when, under which rules."""

from collections.abc import Iterable, Iterator, Mapping, Sequence, Set
from dataclasses import replace
from typing import TypeVar

from ext_proc.broker.deadline import NOTHING, CallOptions, TimeLimit
from ext_proc.broker.entry import Entry, fraction
from ext_proc.broker.plan import AnswerMode, Candidate, Mix, Plan, RankedTarget, members
from ext_proc.broker.resolver import Inspection, Resolver
from ext_proc.broker.settings import BrokerSettings, ModelSettings
from ext_proc.errors import CallError, Reason
from ext_proc.wire.call import Call, Verb

T = TypeVar("T")

_RACED = frozenset(
    {Verb.PREDICT, Verb.CLASSIFY, Verb.REGRESS, Verb.MULTI_INFERENCE, Verb.SESSION_RUN, Verb.INFER}
)  # fmt: skip


class ModelTable:
    """The `models:` section, resolved. Immutable: a reload builds another one.

    `known` are the names of all models that exist, where they can be listed; with it, unknown names
    are refused. Raises ConfigError for a cycle or an unknown name, with the path to it.
    """

    def __init__(
        self, settings: BrokerSettings, models: Mapping[str, ModelSettings], known: Set[str] | None = None
    ) -> None:
        entries = {name: Entry.read(name, model) for name, model in models.items()}
        self._settings = settings
        self._resolver = Resolver(entries, known)
        self._steering = {name: entry for name, entry in entries.items() if entry.steers}
        Inspection(entries, self._resolver, settings.max_candidates).run()

    @property
    def names(self) -> tuple[str, ...]:
        """The names for which a call may be raced, renamed or copied without any header that says so."""
        return tuple(sorted(self._steering))

    def plan(self, call: Call, ask: CallOptions = NOTHING, seed: int = 0) -> Plan | None:
        """The plan for one call, or None for a plain one, which is routed as it is.

        `seed` decides splits of calls without a `tbms-key`, and who is copied to a shadow: any
        number that differs from call to call. Raises CallError(INVALID) for headers that cannot hold.
        """
        if call.model not in self._steering and not ask.races:
            return None
        if call.verb in _RACED:
            return self._race(call, ask, seed)
        return None if call.verb is Verb.STREAM_INFER else self._renamed(call, ask, seed)

    def _renamed(self, call: Call, ask: CallOptions, seed: int) -> Plan | None:
        """Status, metadata and the like: they follow the name, and are never raced."""
        ranks, _ = self._resolver.resolve(_named(call), _key(ask, seed))
        model = members(ranks[0])[0]
        if _same(model, call):
            return None
        return Plan(call.model, (model,), self._limit(ask, None), races=False)

    def _race(self, call: Call, ask: CallOptions, seed: int) -> Plan | None:
        key = _key(ask, seed)
        ranks, passed = self._resolver.resolve(_named(call), key)
        configured = _first(entry.limit_ms for entry in passed)
        self._check(ask, configured)
        if ask.primary is not None:
            ranks = self._resolver.expand(ask.primary, key)
        if ask.limit is not None and ask.limit.estimate_ms is not None:
            ranks = (_estimated(ranks[0], ask.limit.estimate_ms), *ranks[1:])
        backups = ask.backups
        if backups is None:
            backups = _first(entry.backups or None for entry in passed) or ()
        ranks += tuple(one for backup in backups for one in self._resolver.expand(backup, key))
        asked = sum(len(members(rank)) for rank in ranks)
        if asked > self._settings.max_candidates:
            header = "backup" if ask.backups is not None else "primary"
            most = self._settings.max_candidates
            raise _invalid(header, f"the call would ask {asked} models; at most {most} are allowed.")
        limit_ms = self._limit(ask, configured)
        fallback = _first(entry.fallback.get(call.protocol) for entry in passed)
        races = ask.races or configured is not None or fallback is not None or len(ranks) > 1
        races = races or isinstance(ranks[0], Mix)
        shadows = tuple(self._shadows(passed, seed))
        if not races and not shadows and _same(members(ranks[0])[0], call):
            return None
        wish = ask.limit or TimeLimit(limit_ms)
        return Plan(
            model=call.model,
            candidates=ranks,
            limit_ms=limit_ms,
            answer=wish.answer or _first(entry.answer for entry in passed) or AnswerMode.BEST,
            cross_request=wish.cross_request,
            cross_lag_ms=wish.cross_lag_ms,
            priority=wish.priority,
            shadows=shadows,
            fallback=fallback,
            races=races,
        )

    def _limit(self, ask: CallOptions, configured: float | None) -> float:
        """The earlier of the limit (the client's own before the configured one) and the gRPC deadline.

        A gRPC deadline runs at the client, which gives up by itself: an answer at the last moment would come too late.
        """
        limit = configured if ask.limit is None else ask.limit.tloc_ms
        deadline = ask.grpc_timeout_ms
        if deadline is not None:
            deadline -= min(self._settings.deadline_slack_ms, deadline / 10)
        given = [ms for ms in (limit, deadline, self._settings.max_limit_ms) if ms is not None]
        return min(given)

    def _check(self, ask: CallOptions, configured: float | None) -> None:
        """Rules that hold between headers, and between headers and the configuration.

        Estimates are held against the limit that was declared, not against a gRPC deadline: that
        shrinks from hop to hop, and headers that were right must not become wrong on the way.
        """
        limit, most = configured, self._settings.max_limit_ms
        if ask.limit is not None:
            limit = ask.limit.tloc_ms
            if limit > most:
                raise _invalid("tloc", f"value {limit:g} is over the longest limit accepted, {most:g} ms.")
            if limit and (ask.limit.estimate_ms or 0) > limit:
                raise _invalid("tloc", f"value: est={ask.limit.estimate_ms:g} is over the limit of {limit:g} ms.")
        primary = () if ask.primary is None else (ask.primary,)
        for header, entrants in (("primary", primary), ("backup", ask.backups or ())):
            for where, one in _places(entrants):
                if not self._resolver.knows(one.model):
                    raise _invalid(header, f"{where}: no model of this name is known.")
                if limit and (one.estimate_ms or 0) > limit:
                    raise _invalid(header, f"{where}: est={one.estimate_ms:g} is over the limit of {limit:g} ms.")

    def _shadows(self, passed: Sequence[Entry], seed: int) -> Iterator[Candidate]:
        for entry in passed:
            if entry.shadow is not None:
                if fraction(f"shadow of {entry.name}", str(seed)) < entry.shadow_share:
                    for rank in self._resolver.expand(entry.shadow, str(seed)):
                        yield from members(rank)
                return


def _key(ask: CallOptions, seed: int) -> str:
    return f"seed {seed}" if ask.key is None else f"key {ask.key}"


def _named(call: Call) -> Candidate:
    return Candidate(call.model, call.version, call.label)


def _same(candidate: Candidate, call: Call) -> bool:
    return (candidate.model, candidate.version, candidate.label) == (call.model, call.version, call.label)


def _first(values: Iterable[T | None]) -> T | None:
    return next((value for value in values if value is not None), None)


def _estimated(entrant: RankedTarget, ms: float) -> RankedTarget:
    """The primary with the estimate of `tloc`; in a mix it holds for members that declare none."""
    if isinstance(entrant, Candidate):
        return replace(entrant, estimate_ms=ms)
    filled = (replace(one, estimate_ms=ms) if one.estimate_ms is None else one for one in entrant.members)
    return replace(entrant, members=tuple(filled))


def _places(entrants: Sequence[RankedTarget]) -> Iterator[tuple[str, Candidate]]:
    """Every candidate with its place in the header, for errors."""
    for n, entrant in enumerate(entrants, start=1):
        if isinstance(entrant, Mix):
            for k, member in enumerate(entrant.members, start=1):
                yield f"member {n}.{k} ({member.model})", member
        else:
            yield f"member {n} ({entrant.model})", entrant


def _invalid(header: str, rule: str) -> CallError:
    return CallError(Reason.INVALID, f"Header {header}: {rule}")
