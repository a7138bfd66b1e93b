"""What a call asks of the time broker, as headers: written as structured fields, and read back by the server's reader.

call = tbms_try({"embedding": 35, "svm": 25, "bayes": 15, "keysearch": 5}, tloc=50)
requests.post(f"http://edge/v1/models/{call.model}:predict", json=body, headers=call.headers)
stub.Predict(request, metadata=call.metadata)
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, Literal

import http_sfv

from ext_proc.broker.deadline import read_options
from ext_proc.broker.session_header import read_session
from ext_proc.contract import BACKUP_HEADER, PRIMARY_HEADER, SESSION_HEADER, SPLIT_KEY_HEADER, TLOC_HEADER
from ext_proc.errors import CallError

_TOKEN = re.compile(r"[A-Za-z*][A-Za-z0-9:/!#$%&'*+\-.^_`|~]*")


class ClientError(ValueError):
    """What was asked for cannot be said, or the server would refuse it; one sentence that names the part at fault."""


@dataclass(frozen=True, slots=True)
class Model:
    """A model that may answer. `est` is the time in ms that it is expected to need; `weight` counts in an average.

    At most one of `version` and `label`.
    """

    name: str
    est: float | None = None
    version: int | None = None
    label: str | None = None
    weight: float = 1.0


@dataclass(frozen=True, slots=True)
class Mix:
    """Models that are asked together, and whose outputs are combined element by element."""

    models: Sequence[Model]
    how: Literal["max", "avg"] = "avg"


Ranked = Mapping[str, float | None] | Sequence[str | Model | Mix]
"""Models, the best first: names with their estimates in ms (None: not said), or names, models and mixes."""


@dataclass(frozen=True, slots=True)
class CallHeaders:
    """What to send with the call. `model` is the one that the call itself is to name."""

    model: str
    pairs: tuple[tuple[str, str], ...]

    @property
    def headers(self) -> dict[str, str]:
        """For requests, httpx, and tritonclient's `headers`, over http and grpc."""
        return dict(self.pairs)

    @property
    def metadata(self) -> tuple[tuple[str, str], ...]:
        """For gRPC stubs, such as TF Serving's: their `metadata`."""
        return self.pairs


def tbms_try(
    models: Ranked,
    *,
    tloc: float | None = None,
    answer: Literal["best", "first"] | None = None,
    cross_request: bool | None = None,
    cross_lag: float | None = None,
    priority: int | None = None,
    key: str | int | None = None,
    session: str | int | None = None,
    last: bool = False,
) -> CallHeaders:
    """The best answer of `models` within `tloc` ms: the first is the primary, the others start when time gets short.

    `cross_request`: whether the call may share a batch with others, for at most `cross_lag` ms; `priority`: its order
    in queues. `key` decides splits; calls of one `session` all reach one node, until the `last`. Without `tloc` the
    server's configuration has the limit. Raises ClientError.
    """
    ranks = _ranks(models)
    if not ranks:
        raise ClientError("models: at least one is expected")
    primary, *backups = ranks
    options = _Options(answer, cross_request, cross_lag, priority, key, session, last)
    if isinstance(primary, Mix):
        return _mixed(primary.models, primary.how, backups, tloc, options)
    if primary.version is not None or primary.label is not None:
        raise ClientError("models: the first is named by the call itself; say its version or label there")
    return _call(primary.name, primary.est, None, backups, tloc, options)


def tbms_mix_try(
    models: Ranked,
    backups: Ranked = (),
    *,
    how: Literal["max", "avg"] = "avg",
    tloc: float | None = None,
    answer: Literal["best", "first"] | None = None,
    cross_request: bool | None = None,
    cross_lag: float | None = None,
    priority: int | None = None,
    key: str | int | None = None,
    session: str | int | None = None,
    last: bool = False,
) -> CallHeaders:
    """As `tbms_try`, where the primary is a mix: `models` are asked together and their outputs combined, by `how`.

    The call itself names the first of them. Raises ClientError.
    """
    options = _Options(answer, cross_request, cross_lag, priority, key, session, last)
    return _mixed(models, how, backups, tloc, options)


@dataclass(frozen=True, slots=True)
class _Options:
    answer: str | None
    cross_request: bool | None
    cross_lag: float | None
    priority: int | None
    key: str | int | None
    session: str | int | None
    last: bool


def _mixed(
    models: Ranked, how: Literal["max", "avg"], backups: Ranked, tloc: float | None, options: _Options
) -> CallHeaders:
    mix = Mix(tuple(_members(models)), how)
    if not mix.models:
        raise ClientError("models: at least one is expected")
    return _call(mix.models[0].name, None, mix, _ranks(backups), tloc, options)


def _call(
    model: str,
    est: float | None,
    mix: Mix | None,
    backups: Sequence[Model | Mix],
    tloc: float | None,
    options: _Options,
) -> CallHeaders:
    told: dict[str, str] = {}
    params: dict[str, Any] = {}
    for name, ms in [(model, est), *_estimates(backups if mix is None else [mix, *backups])]:
        if tloc and ms is not None and ms > tloc:
            raise ClientError(f"est of {name}: {ms:g} ms is over the limit of {tloc:g} ms")
    if est is not None:
        params["est"] = _number(est, "est")
    if options.cross_request is not None:
        params["cross-request"] = int(options.cross_request)
    if options.cross_lag is not None:
        params["cross-lag"] = _number(options.cross_lag, "cross_lag")
    if options.priority is not None:
        params["priority"] = options.priority
    if options.answer is not None:
        params["answer"] = http_sfv.Token(options.answer)
    if tloc is not None:
        told[TLOC_HEADER] = _written(_with(http_sfv.Item(_number(tloc, "tloc")), params), "tloc")
    elif params:
        raise ClientError(f"tloc: {', '.join(params)} can only be said with a limit")
    if mix is not None:
        told[PRIMARY_HEADER] = _written(http_sfv.List([_rank(mix)]), "models")
    if backups:
        told[BACKUP_HEADER] = _written(http_sfv.List([_rank(rank) for rank in backups]), "backups")
    if options.key is not None:
        told[SPLIT_KEY_HEADER] = _written(http_sfv.Item(_text(options.key, "key")), "key")
    if options.session is not None:
        item = _with(http_sfv.Item(_text(options.session, "session")), {"end": True} if options.last else {})
        told[SESSION_HEADER] = _written(item, "session")
    elif options.last:
        raise ClientError("last: only a call of a session is its last one")
    try:
        read_options(
            tloc=told.get(TLOC_HEADER),
            backup=told.get(BACKUP_HEADER),
            primary=told.get(PRIMARY_HEADER),
            key=told.get(SPLIT_KEY_HEADER),
        )
        if SESSION_HEADER in told:
            read_session(told[SESSION_HEADER])
    except CallError as error:
        raise ClientError(str(error)) from None
    return CallHeaders(model, tuple(told.items()))


def _ranks(models: Ranked) -> list[Model | Mix]:
    if isinstance(models, Mapping):
        return [Model(name, est) for name, est in models.items()]
    if isinstance(models, str):
        raise ClientError("models: several names are expected, as a list or a mapping")
    return [Model(each) if isinstance(each, str) else each for each in models]


def _estimates(ranks: Sequence[Model | Mix]) -> list[tuple[str, float | None]]:
    members = [each for rank in ranks for each in (rank.models if isinstance(rank, Mix) else (rank,))]
    return [(each.name, each.est) for each in members]


def _members(models: Ranked) -> list[Model]:
    members = []
    for each in _ranks(models):
        if isinstance(each, Mix):
            raise ClientError("models: a member of a mix is one model")
        members.append(each)
    return members


def _rank(rank: Model | Mix) -> Any:
    if isinstance(rank, Model):
        return _item(rank, weighted=False)
    return _with(
        http_sfv.InnerList([_item(member, weighted=True) for member in rank.models]), {"mix": http_sfv.Token(rank.how)}
    )


def _item(model: Model, *, weighted: bool) -> Any:
    params: dict[str, Any] = {}
    if model.est is not None:
        params["est"] = _number(model.est, f"est of {model.name}")
    if model.version is not None:
        params["version"] = model.version
    if model.label is not None:
        params["label"] = _text(model.label, "label")
    if weighted and model.weight != 1.0:
        params["w"] = _number(model.weight, f"weight of {model.name}")
    return _with(http_sfv.Item(_text(model.name, "model")), params)


def _with(structure: Any, params: Mapping[str, Any]) -> Any:
    structure.params.update(params)
    return structure


def _number(value: float, part: str) -> int | Decimal:
    """A number of RFC 9651: whole, or with three digits behind the point."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not abs(value) < 10**12:
        raise ClientError(f"{part}: a number is expected (found {value!a})")
    return int(value) if value == int(value) else round(Decimal(repr(value)), 3)


def _text(value: str | int, part: str) -> Any:
    """A token where the text can be one, else a string, or a display string where it is not ASCII."""
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    if not isinstance(value, str):
        raise ClientError(f"{part}: a text is expected (found {value!a})")
    if _TOKEN.fullmatch(value):
        return http_sfv.Token(value)
    return value if value.isascii() else http_sfv.DisplayString(value)


def _written(structure: Any, part: str) -> str:
    try:
        return str(structure)
    except (ValueError, UnicodeError) as error:
        raise ClientError(f"{part}: cannot be written as a header: {error}") from None
