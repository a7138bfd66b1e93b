"""The bytes of a recording's file: a mark, then blocks, each behind its length and its CRC-32.

A block is a message of ext_proc/protos/recording.proto: what is new of names, plans and nodes, and the calls in
columns, each of which is left out where it says nothing. A call takes 10 to 20 bytes so. A file can be read without any
other, and as far as it is whole: what a process leaves that dies while it writes is a last block that is cut off.
"""

import math
from binascii import crc32
from collections.abc import Iterable, Iterator, Sequence
from struct import Struct
from typing import BinaryIO

from google.protobuf.message import DecodeError

from ext_proc.broker.plan import AnswerMode, Candidate, How, Mix, Plan, RankedTarget, StaticAnswer, members
from ext_proc.errors import TbmsError
from ext_proc.protos import recording_pb2 as pb
from ext_proc.recording.calls import Ending, Portion, RecordedCall, RecordedFleet, RecordedNode, Way

MARK = b"tbms calls 1\n"
"""The first bytes of a file; the number is that of the format."""
MAX_BLOCK = 64 << 20
"""Bytes of one block."""
MAX_TABLE = 65_536
"""Names, and plans, of one file: with more of them a new file is begun."""

_HEAD = Struct("<II")
_COLD = 32
_MOST_US = (1 << 63) - 1


class RecordingError(TbmsError):
    """It is no recording, or a damaged one; the text is a clause that says how."""


class BlockWriter:
    """The blocks of one file, in order; the first one begins with the file's mark."""

    def __init__(self) -> None:
        self._models: dict[str, int] = {}
        self._nodes: dict[str, int] = {}
        self._plans: dict[tuple[object, ...], int] = {}
        self._marked = False

    @property
    def full(self) -> bool:
        """Whether the file has as many names or plans as it may have: a new one is to be begun."""
        return max(len(self._models), len(self._nodes), len(self._plans)) >= MAX_TABLE

    def write(self, portion: Portion) -> bytes:
        """The bytes of one more block."""
        block = pb.Block()
        if portion.fleet is not None:
            self._fleet(block, portion.fleet)
        for model, seconds in portion.loads:
            block.loads.add(model=self._model(block, model), seconds=seconds)
        if portion.calls:
            self._calls(block, portion.calls)
        data = block.SerializeToString()
        mark, self._marked = b"" if self._marked else MARK, True
        return mark + _HEAD.pack(len(data), crc32(data)) + data

    def _calls(self, block: pb.Block, calls: Sequence[RecordedCall]) -> None:
        before = block.begin_us = max(0, round(calls[0].at * 1e6))
        rows = []
        for call in calls:
            at = round(call.at * 1e6)
            rows.append(
                (
                    at - before,
                    call.way | call.ending << 2 | (_COLD if call.cold else 0),
                    self._model(block, call.model),
                    self._node(block, call.node),
                    self._plan(block, call.plan),
                    call.weight,
                    round(call.took * 1e6),
                    0 if call.limit == math.inf else max(1, min(round(call.limit * 1e6), _MOST_US)),
                    call.rank + 1,
                    call.size,
                )
            )
            before = at
        for column, values in zip(_columns(block), zip(*rows, strict=True), strict=True):
            if any(values):
                column.extend(values)
        if not block.at_us:  # the column that says how many calls there are
            block.at_us.extend([0] * len(rows))

    def _model(self, block: pb.Block, model: str) -> int:
        number = self._models.get(model)
        if number is None:
            number = self._models[model] = len(self._models)
            block.models.append(_text(model))
        return number

    def _node(self, block: pb.Block, node: str) -> int:
        if not node:
            return 0
        number = self._nodes.get(node)
        if number is None:
            number = self._nodes[node] = len(self._nodes) + 1
            block.nodes.append(_text(node))
        return number

    def _plan(self, block: pb.Block, plan: Plan | None) -> int:
        if plan is None:
            return 0
        key = (
            plan.model, plan.candidates, plan.answer, plan.cross_request, plan.cross_lag_ms, plan.priority, plan.races,
            plan.fallback is not None,
        )  # fmt: skip
        number = self._plans.get(key)
        if number is None:
            number = self._plans[key] = len(self._plans) + 1
            block.plans.append(_written_plan(plan))
        return number

    def _fleet(self, block: pb.Block, fleet: RecordedFleet) -> None:
        block.fleet.settings = fleet.settings
        for node in fleet.nodes:
            block.fleet.nodes.add(
                id=_text(node.id),
                zone=_text(node.zone),
                weight=node.weight,
                grpc="grpc" in node.speaks,
                rest="rest" in node.speaks,
                tells=node.tells,
                slots=node.slots or 0,
                held=[self._model(block, model) for model in node.held],
            )


def read_blocks(file: BinaryIO) -> Iterator[Portion]:
    """What a file has, block by block. A last block that is not whole is passed over. Raises RecordingError."""
    if (mark := file.read(len(MARK))) != MARK:
        if not mark or MARK.startswith(mark):
            return
        format_of = MARK.rsplit(b" ", 1)[0]
        raise RecordingError("has a format of another version" if mark.startswith(format_of) else "is no recording")
    models: list[str] = []
    nodes: list[str] = [""]
    plans: list[Plan | None] = [None]
    while len(head := file.read(_HEAD.size)) == _HEAD.size:
        size, check = _HEAD.unpack(head)
        if size > MAX_BLOCK:
            raise RecordingError(f"is damaged: a block of {size} bytes")
        data = file.read(size)
        if len(data) < size:
            return
        if crc32(data) != check:
            if not file.read(1):
                return
            raise RecordingError("is damaged: a block is not what was written")
        try:
            block = pb.Block.FromString(data)
            models += block.models
            nodes += block.nodes
            plans += map(_read_plan, block.plans)
            yield _portion(block, models, nodes, plans)
        except (DecodeError, IndexError, ValueError) as error:
            raise RecordingError(f"is damaged: {error}") from None


def _columns(block: pb.Block) -> tuple:  # type: ignore[type-arg]  # of repeated fields, which have no public type
    """In the order of the fields of a row, from `at` to `size`."""
    return (
        block.at_us, block.kind, block.model, block.node, block.plan, block.weight, block.took_us, block.limit_us,
        block.rank, block.size,
    )  # fmt: skip


def _portion(block: pb.Block, models: list[str], nodes: list[str], plans: list[Plan | None]) -> Portion:
    count = len(block.at_us)
    if any(len(column) not in (0, count) for column in _columns(block)):
        raise ValueError("columns of unequal lengths")
    fleet = None
    if block.HasField("fleet"):
        fleet = RecordedFleet(
            tuple([_read_node(node, models) for node in block.fleet.nodes]), block.fleet.settings or "{}"
        )
    loads = tuple([(models[load.model], load.seconds) for load in block.loads])
    return Portion(tuple(_read_calls(block, count, models, nodes, plans)), fleet, loads)


def _read_calls(
    block: pb.Block, count: int, models: list[str], nodes: list[str], plans: list[Plan | None]
) -> Iterator[RecordedCall]:
    at_us, none = block.begin_us, (0,) * count
    columns = [column or none for column in _columns(block)]
    for since, kind, model, node, plan, weight, took, limit, rank, size in zip(*columns, strict=True):
        at_us += since
        yield RecordedCall(
            at_us / 1e6,
            models[model],
            _WAYS[kind & 3],
            _ENDINGS[kind >> 2 & 7],
            nodes[node],
            kind >= _COLD,
            plans[plan],
            limit / 1e6 if limit else math.inf,
            took / 1e6,
            weight,
            rank - 1,
            size,
        )


_WAYS = tuple(Way)
_ENDINGS = tuple(Ending)
_ANYTHING = StaticAnswer(b"", "")


def _text(text: str) -> str:
    """The text as UTF-8 has it; what is none in it is replaced."""
    return text.encode("utf-8", "replace").decode()


def _written_plan(plan: Plan) -> pb.Plan:
    written = pb.Plan(
        model=_text(plan.model),
        answer=plan.answer,
        cross_lag_ms=plan.cross_lag_ms,
        priority=plan.priority,
        races=plan.races,
        fallback=plan.fallback is not None,
    )
    if plan.cross_request is not None:
        written.cross_request = plan.cross_request
    for target in plan.candidates:
        rank = written.ranks.add(mix=target.how if isinstance(target, Mix) else "")
        for one in members(target):
            rank.candidates.add(
                model=_text(one.model),
                version=_text(one.version or ""),
                label=_text(one.label or ""),
                estimate_ms=one.estimate_ms,
                weight=one.weight,
            )
    return written


def _read_plan(plan: pb.Plan) -> Plan:
    """The plan without a limit, which is that of each call."""
    if not plan.ranks or not all(rank.candidates for rank in plan.ranks):
        raise ValueError("a plan without a candidate")
    return Plan(
        plan.model,
        tuple([_read_rank(rank) for rank in plan.ranks]),
        math.inf,
        AnswerMode(plan.answer),
        plan.cross_request if plan.HasField("cross_request") else None,
        plan.cross_lag_ms if plan.HasField("cross_lag_ms") else None,
        plan.priority,
        fallback=_ANYTHING if plan.fallback else None,
        races=plan.races,
    )


def _read_rank(rank: pb.Rank) -> RankedTarget:
    candidates = [
        Candidate(
            one.model,
            one.version or None,
            one.label or None,
            one.estimate_ms if one.HasField("estimate_ms") else None,
            one.weight,
        )
        for one in rank.candidates
    ]
    return Mix(tuple(candidates), How(rank.mix)) if rank.mix else candidates[0]


def _read_node(node: pb.Node, models: list[str]) -> RecordedNode:
    speaks: Iterable[str] = [kind for kind, does in (("grpc", node.grpc), ("rest", node.rest)) if does]
    return RecordedNode(
        node.id,
        node.zone,
        node.weight,
        frozenset(speaks),  # type: ignore[arg-type]
        node.tells,
        node.slots or None,
        tuple([models[number] for number in node.held]),
    )
