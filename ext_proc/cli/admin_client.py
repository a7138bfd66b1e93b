"""The admin ports that a command asks: those that were named, or those that answer where one usually is."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager

from ext_proc.admin import EDGE_ADDRESS, NODE_ADDRESS
from ext_proc.admin.client import AdminPort
from ext_proc.admin.documents import StatusDocument
from ext_proc.errors import AwayError, TbmsError

DEFAULTS = (EDGE_ADDRESS, NODE_ADDRESS)
"""Where ports are looked for if nobody names one: that of an edge and that of a node on this machine."""
HOW = "Name the one that `server.admin` of the configuration has with --admin, or that file with --config."


def default_port(address: str) -> AdminPort:
    """A port that nobody has named."""
    return AdminPort(address, hint=f"This is a default port. {HOW}")


@asynccontextmanager
async def ports(admins: Sequence[str]) -> AsyncIterator[list[AdminPort]]:
    """The ports of these names; if there are none, those of the default ones that answer. Raises TbmsError."""
    async with AsyncExitStack() as stack:
        found = [AdminPort(admin) for admin in admins] or [default_port(admin) for admin in DEFAULTS]
        for port in found:
            await stack.enter_async_context(port)
        if not admins:
            asked = await asyncio.gather(*(port.status() for port in found), return_exceptions=True)
            there = [port for port, answer in zip(found, asked, strict=True) if not isinstance(answer, BaseException)]
            if not there:
                raise _nobody(asked)
            found = there
        yield found


async def statuses(admins: Sequence[str]) -> tuple[list[tuple[str, StatusDocument]], AwayError | None]:
    """As `told_by`, of the ports of these names."""
    async with ports(admins) as found:
        return await told_by(found)


async def told_by(found: Sequence[AdminPort]) -> tuple[list[tuple[str, StatusDocument]], AwayError | None]:
    """What each of these ports says of itself, by its name, and the error for those that do not answer, if any do not:
    for a command to raise once it has shown the rest. Raises TbmsError where none answers, or one is of somebody else.
    """
    answers = await asyncio.gather(*(port.status() for port in found), return_exceptions=True)
    told: list[tuple[str, StatusDocument]] = []
    away: list[AwayError] = []
    for port, answer in zip(found, answers, strict=True):
        if isinstance(answer, AwayError):
            away.append(answer)
        elif isinstance(answer, BaseException):
            raise answer
        else:
            told.append((port.name, answer))
    error = AwayError("\n".join(map(str, away))) if away else None
    if error is not None and not told:
        raise error
    return told, error


def _nobody(answers: Sequence[object]) -> TbmsError:
    wrong = [answer for answer in answers if isinstance(answer, TbmsError) and not isinstance(answer, AwayError)]
    if wrong:
        return wrong[0]
    edge, node = DEFAULTS
    return AwayError(f"Neither {edge} (an edge's default) nor {node} (a node's) answers. {HOW}")
