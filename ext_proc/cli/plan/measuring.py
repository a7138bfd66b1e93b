"""Asks a model server for batches of a recorded request: to time them, and to compare what rows get in them."""

from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter
from typing import NamedTuple

from ext_proc.cli.plan.model_client import ModelClient, Reply, hint, model_client
from ext_proc.errors import TbmsError
from ext_proc.planning.curve import Curve, curve_of, order, sizes_up_to
from ext_proc.planning.exactness import Answer, Company, Finding, company_sizes, compare
from ext_proc.planning.recorded import Recorded, read_recorded
from ext_proc.wire.batch import Member, ReplyMismatch
from ext_proc.wire.call import InferenceProtocol

COMPARED_ROWS = 16
"""Most rows of the recorded requests that are compared, each in every place of every batch."""
_MOST_ROWS = 65_536

Tell = Callable[[str], None]
"""Is told what is being done."""


@dataclass(frozen=True, slots=True)
class Target:
    """A model on a server, and files with recorded requests for it. `seconds`: the longest wait for a reply."""

    server: str
    protocol: InferenceProtocol
    model: str
    version: str | None
    files: Sequence[Path]
    seconds: float


class Measured(NamedTuple):
    """Batch times, and the bytes of the largest row that was asked."""

    curve: Curve
    row_bytes: int


async def measured(target: Target, max_rows: int, repeats: int, tell: Tell) -> Measured:
    """The time of batches of 1, 2, 4 ... `max_rows` rows, from sending to reply, one at a time. Raises TbmsError."""
    async with _asking(target, _MOST_ROWS) as asking:
        sizes = sizes_up_to(max_rows)
        requests = {size: asking.recorded.request(asking.recorded.members(size)) for size in sizes}
        for size in sizes:  # the first batch of a size may have to be prepared
            tell(f"warming up: {size} rows")
            await asking.reply(asking.recorded.members(size))
        timed = []
        for number, size in enumerate(order(sizes, repeats)):
            tell(f"timing: {number + 1} of {len(sizes) * repeats}")
            start = perf_counter()
            await asking.client.ask(requests[size])
            timed.append((size, perf_counter() - start))
        return Measured(curve_of(timed), max(row.size for row in asking.recorded.rows))


async def company_finding(target: Target, max_rows: int, tell: Tell) -> Finding:
    """Each row alone, twice, and then in every place of batches of several sizes. Raises TbmsError."""
    if max_rows < 2:
        raise TbmsError(f"--max-rows: company takes 2 rows at least (found {max_rows})")
    async with _asking(target, COMPARED_ROWS) as asking:
        rows = asking.recorded.rows
        tell(f"{len(rows)} rows alone")
        alone = [await asking.alone(row) for row in rows]
        again = [await asking.alone(row) for row in rows]
        company = []
        for size in company_sizes(max_rows):
            tell(f"batches of {size} rows")
            for first in range(len(rows)):
                members = asking.recorded.members(size, first)
                for place, answer in enumerate(await asking.answers(members)):
                    company.append(Company((first + place) % len(rows), size, place, answer))
    has_ulps = target.protocol is not InferenceProtocol.TFS_REST
    return compare(alone, again, company, distinct=asking.recorded.distinct, has_ulps=has_ulps)


@dataclass(frozen=True, slots=True)
class _Asking:
    """A connected client, and the rows to ask for."""

    recorded: Recorded
    client: ModelClient
    model: str

    async def reply(self, members: Sequence[Member]) -> Reply:
        """Raises TbmsError, which says for how many rows."""
        try:
            return await self.client.ask(self.recorded.request(members))
        except TbmsError as error:
            if len(members) > 1:
                raise TbmsError(f"{error} That was a batch of {len(members)} rows; --max-rows bounds them.") from None
            raise TbmsError(f"{error}{await hint(self.client, self.model)}") from None

    async def answers(self, members: Sequence[Member]) -> list[Answer]:
        """What each got. Raises TbmsError."""
        reply = await self.reply(members)
        try:
            return self.recorded.answers(reply.headers, reply.body, members)
        except ReplyMismatch as error:
            raise TbmsError(f"The model cannot share batches: of {len(members)} rows: {error}") from None

    async def alone(self, member: Member) -> Answer:
        """What a row gets by itself."""
        return (await self.answers([member]))[0]


@asynccontextmanager
async def _asking(target: Target, most_rows: int) -> AsyncIterator[_Asking]:
    bodies = {f"--request {path}": _read(path) for path in target.files}
    if not bodies:
        raise TbmsError("--request: a file with a recorded request body is needed to ask the server")
    recorded = read_recorded(target.protocol, target.model, target.version, bodies, most_rows)
    async with model_client(target.protocol, target.server, recorded.path, target.seconds) as client:
        yield _Asking(recorded, client, target.model)


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise TbmsError(f"--request {path}: cannot be read: {error.strerror}") from None
