"""Every row of the parity tables, at every place where it applies, over every version of HTTP."""

import asyncio
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio
from tritonclient.grpc import service_pb2 as pb

from integration.peers.triton import missing
from tests.integration.conftest import need_envoy
from tests.integration.parity import rows, servers
from tests.integration.parity.callers import Caller
from tests.integration.parity.row import Answer, AsTriton, Grpc, Place, Reply, Row
from tests.integration.parity.rows import triton_fields
from tests.integration.parity.rows.words import v2

pytestmark = [pytest.mark.triton, pytest.mark.envoy]

Callers = dict[Place, dict[str, Caller]]


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def callers(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Callers]:
    if reason := missing():
        pytest.skip(reason)
    need_envoy("1.40")
    async with servers.places(tmp_path_factory.mktemp("parity")) as running:
        yield running


async def ask(caller: Caller, row: Row, by_edge: bool) -> dict[str, Answer]:
    """The answers of one place: by version of HTTP, or one under "gRPC"."""
    if isinstance(row.request, Grpc):
        return {"gRPC": await caller.unary(row.request)}
    # No model server speaks HTTP/2 on its REST port.
    return {version: await caller.http(row.request, version) for version in row.versions if by_edge or version != "2"}


async def check(callers: Callers, row: Row) -> list[str]:
    """What is not as the row says, in words."""
    wrong: dict[str, list[str]] = {}
    given: Answer | None = None
    # Triton first: the others are to answer as it does.
    for place in (Place.TRITON, Place.OURS, Place.TRITON_BY_EDGE, Place.OURS_BY_EDGE):
        if place not in row.places:
            continue
        for way, caller in callers[place].items():
            for version, answer in (await ask(caller, row, place.by_edge)).items():
                given = given or answer
                amiss = judge(row, place, answer, given)
                if amiss is not None:
                    wrong.setdefault(amiss, []).append(f"{place.value} ({way}, {version})")
            if place is Place.TRITON:
                await settle(caller, row)
    return [f"{row.about} ({row.source}): {', '.join(where)}:\n  {amiss}" for amiss, where in wrong.items()]


def judge(row: Row, place: Place, answer: Answer, triton: Answer) -> str | None:
    """What is amiss with the answer of a place; `triton` is that of the first place, which AsTriton means."""

    def fits(expected: Reply | AsTriton) -> bool:
        return answer == triton if isinstance(expected, AsTriton) else answer.fits(expected)

    expected = row.at(place)
    if not fits(expected):
        return f"{answer}\n  and not\n  {triton if isinstance(expected, AsTriton) else expected}"
    if place in row.differences and fits(row.expect):
        return f"{answer}\n  is no difference any more"
    return None


async def settle(triton: Caller, row: Row) -> None:
    """Triton unloads in the background: wait until it is done."""
    request = row.request
    if isinstance(request, Grpc):
        if not request.method.endswith("/RepositoryModelUnload"):
            return
        name = request.message.model_name  # type: ignore[union-attr]
    else:
        if not request.path.endswith("/unload"):
            return
        name = request.path.split("/")[-2]
    for _ in range(500):
        index = await triton.unary(v2("RepositoryIndex", pb.RepositoryIndexRequest(ready=True)))
        if not any(model["name"] == name for model in index.body.get("models", [])):
            return
        await asyncio.sleep(0.02)
    raise AssertionError(f"{name} is not unloaded")


ROWS = {f"{name}: {row.about}": row for name, table in rows.TABLES.items() for row in table}


@pytest.mark.parametrize("row", ROWS.values(), ids=ROWS)
async def test_row(callers: Callers, row: Row) -> None:
    wrong = await check(callers, row)
    assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize("sweep", triton_fields.SWEEPS)
async def test_sweep(callers: Callers, sweep: str) -> None:
    wrong = [each for row in triton_fields.SWEEPS[sweep] for each in await check(callers, row)]
    assert not wrong, "\n".join(wrong)
