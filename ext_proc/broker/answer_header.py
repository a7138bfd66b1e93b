"""The `tbms-answer` header: which model answered, and why not the primary (RFC 9651, a list of one member).

svm;rank=1;elapsed=36.2;why=overdue;left=13.8;node="10.0.0.3:8500"
(bayes keysearch);rank=2;elapsed=47.9;why=overdue;left=2.1;mix=avg
"""

import re
from urllib.parse import quote

from ext_proc.broker.effects import Answer, Fail, Outcome, Why
from ext_proc.broker.plan import Candidate, Mix, Plan, members
from mesh.bounded import ByteMemo

_TOKEN = re.compile(r"[A-Za-z*][A-Za-z0-9:/!#$%&'*+\-.^_`|~]*")


def answer_header(plan: Plan, outcome: Outcome, node: str | None = None) -> str:
    """The header's value. `node` is the address of the model server that answered, where it is known.

    On an error or a fallback it names the model that the client asked, and no rank. Of a mix, the
    members that the answer was made of are named; `partial` says that some are missing.
    """
    # Written out by hand: the library that reads such fields takes longer to write one than the race to be decided.
    if not isinstance(outcome, Answer):
        why = outcome.why if isinstance(outcome, Fail) else Why.FALLBACK
        return f"{_text(plan.model)};elapsed={_ms(outcome.elapsed_ms)};why={why};left={_ms(outcome.left_ms)}"
    target = plan.candidates[outcome.rank]
    if isinstance(target, Mix):
        who = f"({' '.join(_model(target.members[member]) for member in outcome.members)})"
        mix = f";mix={target.how};partial" if outcome.partial else f";mix={target.how}"
    else:
        who, mix = _model(members(target)[0]), ""
    where = "" if node is None else f";node={_string(node)}"
    elapsed, left = _ms(outcome.elapsed_ms), _ms(outcome.left_ms)
    return f"{who};rank={outcome.rank};elapsed={elapsed};why={outcome.why};left={left}{mix}{where}"


def _model(candidate: Candidate) -> str:
    if candidate.version is not None:
        return f"{_text(candidate.model)};version={int(candidate.version)}"
    if candidate.label is not None:
        return f"{_text(candidate.model)};label={_text(candidate.label)}"
    return _text(candidate.model)


def _text(name: str) -> str:
    """A name as a token where it is one, else as a string; what is not printable ASCII is percent-encoded."""
    return _TEXTS[name]


def _token_or_string(name: str) -> str:
    return name if _TOKEN.fullmatch(name) else _string(name)


_TEXTS = ByteMemo(_token_or_string)


def _string(text: str) -> str:
    plain = text if text.isascii() and text.isprintable() else quote(text, safe=" ")
    return '"' + plain.replace("\\", "\\\\").replace('"', '\\"') + '"'


def _ms(ms: float) -> str:
    return f"{round(ms, 1) + 0.0:.1f}"  # never -0.0
