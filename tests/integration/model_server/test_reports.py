"""Calls out of public reports get the replies that stand in the table, of the embedded server and of a real Triton."""

import json
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from tests.integration.model_server.report_cases import REPORTS, Report
from tests.integration.model_server.test_triton_parity import Both, Server, call_rest, pair
from tests.integration.parity_cases import Http

pytestmark = pytest.mark.triton


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def both(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Both]:
    async with pair(tmp_path_factory.mktemp("reports")) as servers:
        yield servers


async def check(server: Server, report: Report) -> None:
    status, _, body = await call_rest(server, Http("POST", report.path, report.body.encode()))
    reply = json.loads(body)
    assert (status, {key: reply.get(key) for key in report.reply}) == (report.status, report.reply)


@pytest.mark.parametrize("report", REPORTS, ids=lambda report: report.about)
async def test_embedded(both: Both, report: Report) -> None:
    await check(both.ours, report)


@pytest.mark.parametrize("report", [report for report in REPORTS if report.v2], ids=lambda report: report.about)
async def test_triton(both: Both, report: Report) -> None:
    await check(both.triton, report)
