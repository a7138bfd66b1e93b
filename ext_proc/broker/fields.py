"""Candidates as text: ranked lists, in one language for headers and for the configuration (RFC 9651).

    svm;est=25, (bayes;est=15 keysearch;w=2);mix=avg, "odd name";version=3

A model name is a token or a string, by the rule of `mesh.names`. Parameters of a candidate: `est` (ms), `version`
(integer), `label` (as a name), `w` (weight, in a mix or a split). Of an inner list: `mix`, max or avg.
"""

from collections.abc import Iterable, Mapping
from decimal import Decimal
from typing import Any, TypeGuard

import http_sfv

from ext_proc.broker.plan import Candidate, How, Mix, RankedTarget
from mesh.names import name_fault, quoted

MAX_TEXT = 2048  # characters of one field; the parser's cost grows with the square of it
MAX_ESTIMATE_MS = 3_600_000
MAX_WEIGHT = 1_000_000
MAX_PRIORITY = 1000


class FieldError(ValueError):
    """A structured field breaks a rule; the message names the place in it and the rule."""


def read_targets(text: str) -> tuple[RankedTarget, ...]:
    """Reads a ranked list. Raises FieldError."""
    parsed = parse(http_sfv.List(), text)
    return tuple(_target(member, f"member {n}") for n, member in enumerate(parsed, start=1))


def read_target(text: str) -> RankedTarget:
    """Reads a ranked list of exactly one. Raises FieldError."""
    targets = read_targets(text)
    if len(targets) != 1:
        raise FieldError(f"value names {len(targets)} candidates; one is expected here")
    return targets[0]


def read_candidate(text: str) -> Candidate:
    """Reads one candidate, for example `bert;version=3;w=9`. Raises FieldError."""
    return candidate(parse(http_sfv.Item(), text), "value", weighted=True)


def parse(structure: Any, text: str) -> Any:
    """Parses into an http_sfv structure and returns it; a FieldError names the member that breaks off."""
    if len(text) > MAX_TEXT:
        raise FieldError(f"is {len(text)} characters long; at most {MAX_TEXT} are read")
    if not _parses(structure, text):
        raise FieldError(f"{_culprit(text)} does not parse as a structured field (RFC 9651)")
    return structure


def candidate(item: Any, where: str, *, weighted: bool) -> Candidate:
    """Reads an http_sfv item as a candidate. `where` names its place in errors."""
    name = item.value
    if not isinstance(name, str):
        raise FieldError(f"{where} is no model name: a token or a string is expected")
    fault = name_fault(name)
    if fault is not None:
        raise FieldError(f"{where} is no model name: {quoted(name)} {fault}")
    where = f"{where} ({name if name.isascii() else quoted(name)})"
    known(item.params, {"est", "version", "label", "w"} if weighted else {"est", "version", "label"}, where)
    version = item.params.get("version")
    label = item.params.get("label")
    if version is not None and (not is_whole(version) or version < 0):
        raise FieldError(f"{where}: version is a whole number, not negative")
    if label is not None:
        fault = name_fault(label) if isinstance(label, str) else "is neither a token nor a string"
        if fault is not None:
            raise FieldError(f"{where}: the label {quoted(str(label))} {fault}")
    if version is not None and label is not None:
        raise FieldError(f"{where}: version and label exclude each other")
    weight = number(item.params, "w", where, MAX_WEIGHT)
    if weight == 0:
        raise FieldError(f"{where}: w is over 0")
    return Candidate(
        model=str(name),
        version=None if version is None else str(version),
        label=None if label is None else str(label),
        estimate_ms=number(item.params, "est", where, MAX_ESTIMATE_MS),
        weight=1.0 if weight is None else weight,
    )


def number(params: Mapping[str, Any], name: str, where: str, most: float) -> float | None:
    """The value of a numeric parameter between 0 and `most`, or None where it is absent."""
    value = params.get(name)
    if value is None:
        return None
    if not is_number(value) or not 0 <= value <= most:
        raise FieldError(f"{where}: {name} is a number from 0 to {most}")
    return float(value)


def is_number(value: object) -> bool:
    """Whether a bare item is an Integer or a Decimal."""
    return isinstance(value, int | Decimal) and not isinstance(value, bool)


def is_whole(value: object) -> TypeGuard[int]:
    """Whether a bare item is an Integer."""
    return isinstance(value, int) and not isinstance(value, bool)


def known(params: Iterable[str], names: set[str], where: str) -> None:
    """Raises FieldError for the first parameter that is not one of `names`."""
    for name in params:
        if name not in names:
            raise FieldError(f"{where}: parameter {name!r} is not one of {', '.join(sorted(names)) or 'none'}")


def _target(member: Any, where: str) -> RankedTarget:
    if not isinstance(member, http_sfv.InnerList):
        return candidate(member, where, weighted=False)
    known(member.params, {"mix"}, where)
    try:
        how = How(member.params.get("mix", ""))
    except ValueError:
        raise FieldError(f"{where}: a mix says mix=max or mix=avg") from None
    if not member:
        raise FieldError(f"{where}: a mix has at least one member")
    inside = (candidate(item, f"{where}.{n}", weighted=True) for n, item in enumerate(member, start=1))
    return Mix(tuple(inside), how)


def _parses(structure: Any, text: str) -> bool:
    try:
        structure.parse(text.encode("ascii"))
    except (ValueError, IndexError, OverflowError, OSError):  # the last two: dates out of range
        return False
    return True


def _culprit(text: str) -> str:
    """Names the first member of a broken list that does not parse on its own."""
    start = 0
    for n, end in enumerate(_commas(text), start=1):
        if not _parses(http_sfv.List(), text[start:end]) or not text[start:end].strip():
            return f"member {n} (at character {start + 1})"
        start = end + 1
    return "value"


def _commas(text: str) -> Iterable[int]:
    """Positions of the commas between members, and of the end."""
    quoted = escaped = False
    for at, char in enumerate(text):
        if escaped:
            escaped = False
        elif quoted and char == "\\":
            escaped = True
        elif char == '"':
            quoted = not quoted
        elif char == "," and not quoted:
            yield at
    yield len(text)
