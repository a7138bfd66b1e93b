"""The `tbms-answer` header: who answered, and why not the primary (RFC 9651, a list of one member).

svm;rank=1;elapsed=36.2;why=overdue;left=13.8;node="10.0.0.3:8500"
(bayes keysearch);rank=2;elapsed=47.9;why=overdue;left=2.1;mix=avg
"""

import re
from decimal import Decimal
from typing import Any
from urllib.parse import quote

import http_sfv

from ext_proc.broker.effects import Answer, Fail, Outcome, Why
from ext_proc.broker.plan import Candidate, Mix, Plan, members

HEADER = "tbms-answer"
_TOKEN = re.compile(r"[A-Za-z*][A-Za-z0-9:/!#$%&'*+\-.^_`|~]*")


def answer_header(plan: Plan, outcome: Outcome, node: str | None = None) -> str:
    """The header's value. `node` is the address of the model server that answered, where it is known.

    On an error or a fallback it names the model that the client asked, and no rank. Of a mix, the
    members that the answer was made of are named; `partial` says that some are missing.
    """
    if not isinstance(outcome, Answer):
        value = http_sfv.Item(_text(plan.model))
        value.params["elapsed"] = _ms(outcome.elapsed_ms)
        value.params["why"] = http_sfv.Token(outcome.why if isinstance(outcome, Fail) else Why.FALLBACK)
        value.params["left"] = _ms(outcome.left_ms)
        return str(value)
    entrant = plan.candidates[outcome.rank]
    if isinstance(entrant, Mix):
        value = http_sfv.InnerList([_model(entrant.members[member]) for member in outcome.members])
    else:
        value = _model(members(entrant)[0])
    value.params["rank"] = outcome.rank
    value.params["elapsed"] = _ms(outcome.elapsed_ms)
    value.params["why"] = http_sfv.Token(outcome.why)
    value.params["left"] = _ms(outcome.left_ms)
    if isinstance(entrant, Mix):
        value.params["mix"] = http_sfv.Token(entrant.how)
        if outcome.partial:
            value.params["partial"] = True
    if node is not None:
        value.params["node"] = node
    return str(value)


def _model(candidate: Candidate) -> Any:
    item = http_sfv.Item(_text(candidate.model))
    if candidate.version is not None:
        item.params["version"] = int(candidate.version)
    if candidate.label is not None:
        item.params["label"] = _text(candidate.label)
    return item


def _text(name: str) -> Any:
    """A name as a token where it is one, else as a string; what is not printable ASCII is percent-encoded."""
    if _TOKEN.fullmatch(name):
        return http_sfv.Token(name)
    return name if name.isascii() and name.isprintable() else quote(name, safe=" ")


def _ms(ms: float) -> Decimal:
    return Decimal(round(ms * 10)) / 10
