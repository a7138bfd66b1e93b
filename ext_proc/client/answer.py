"""`tbms-answer`, read: who answered a call, and why not the primary."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Any
from urllib.parse import quote, unquote

import http_sfv

from ext_proc.broker import fields
from ext_proc.broker.effects import Why
from ext_proc.broker.plan import How
from ext_proc.client.calls import ClientError, Model
from ext_proc.contract import ANSWER_HEADER


@dataclass(frozen=True, slots=True)
class TbmsAnswer:
    """Who answered. `models` are several only where a mix did, by `mix`; `partial`: it lacks members.

    `rank` 0 is the primary; None where no model answered: then `models` has the name that was called. `elapsed_ms` from
    the call's arrival at Envoy, `left_ms` to its limit. `node` is the `ip:port` of the model server.
    """

    models: tuple[Model, ...]
    why: Why
    rank: int | None
    elapsed_ms: float
    left_ms: float
    mix: How | None = None
    partial: bool = False
    node: str | None = None

    @property
    def model(self) -> str:
        """The name of the (first) model."""
        return self.models[0].name if self.models else ""


def read_answer(reply: str | Mapping[str, str] | Iterable[tuple[str, Any]] | None) -> TbmsAnswer | None:
    """What the header says: of its value, of a reply's headers, or of the initial metadata of a gRPC call.

    None where there is none: the call was not raced. Raises ClientError for a value that cannot be read.
    """
    text = _value(reply)
    if text is None:
        return None
    try:
        members = fields.parse(http_sfv.List(), text)
        if len(members) != 1:
            raise fields.FieldError("value is not one member")
        return _answer(members[0])
    except (fields.FieldError, ValueError) as error:
        raise ClientError(f"{ANSWER_HEADER}: {error}") from None


def _value(reply: str | Mapping[str, str] | Iterable[tuple[str, Any]] | None) -> str | None:
    if reply is None or isinstance(reply, str):
        return reply
    pairs = reply.items() if isinstance(reply, Mapping) else reply
    for name, value in pairs:
        if name.lower() == ANSWER_HEADER:
            return value.decode("ascii", "replace") if isinstance(value, bytes) else str(value)
    return None


def _answer(member: Any) -> TbmsAnswer:
    params = member.params
    items = list(member) if isinstance(member, http_sfv.InnerList) else [member]
    rank, mix, node = params.get("rank"), params.get("mix"), params.get("node")
    if rank is not None and not fields.is_whole(rank):
        raise fields.FieldError("rank is a whole number")
    return TbmsAnswer(
        models=tuple(_model(item) for item in items),
        why=Why(str(params.get("why", ""))),
        rank=rank,
        elapsed_ms=_ms(params, "elapsed"),
        left_ms=_ms(params, "left"),
        mix=None if mix is None else How(str(mix)),
        partial=params.get("partial") is True,
        node=None if node is None else str(node),
    )


def _model(item: Any) -> Model:
    if not isinstance(item.value, str):
        raise fields.FieldError("a model is a token or a string")
    version, label = item.params.get("version"), item.params.get("label")
    if version is not None and not fields.is_whole(version):
        raise fields.FieldError("version is a whole number")
    return Model(_plain(item.value), version=version, label=None if label is None else _plain(str(label)))


def _plain(text: str) -> str:
    """A name as it is; one that is not printable ASCII was percent-encoded."""
    decoded = unquote(str(text))
    is_encoded = quote(decoded, safe=" ") == text and not (decoded.isascii() and decoded.isprintable())
    return decoded if is_encoded else str(text)


def _ms(params: Mapping[str, Any], name: str) -> float:
    value = params.get(name, 0)
    if not isinstance(value, int | Decimal) or isinstance(value, bool):
        raise fields.FieldError(f"{name} is a number")
    return float(value)
