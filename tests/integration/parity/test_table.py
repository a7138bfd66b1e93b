"""The tables themselves: every row can be found by its name, and says whose word it is and why a place differs."""

import re

import pytest

from tests.integration.parity.row import TRITON, Grpc, Http, Row
from tests.integration.parity.rows import TABLES
from tests.integration.parity.rows.triton_fields import SWEEPS

SOURCES = re.compile(r"[\w.-]+/[\w.-]+#\d+|https://\S+|[\w.-]+/[\w.-]+: \S+")
ALL = {**TABLES, **SWEEPS}


def is_tf_serving(row: Row) -> bool:
    if isinstance(row.request, Grpc):
        return row.request.method.startswith("/tensorflow.")
    return re.match(r"(http://[^/]*)?/v1/", row.request.path, re.IGNORECASE) is not None


@pytest.mark.parametrize("name", ALL)
def test_rows_have_names_and_sources(name: str) -> None:
    table = ALL[name]
    assert len({row.about for row in table}) == len(table)
    for row in table:
        assert row.source == TRITON or SOURCES.fullmatch(row.source), row.about


@pytest.mark.parametrize("name", ALL)
def test_a_difference_is_of_a_place_that_is_asked_and_has_a_reason(name: str) -> None:
    for row in ALL[name]:
        assert row.differences.keys() <= row.places, row.about
        assert all(difference.reason.endswith(".") for difference in row.differences.values()), row.about


def test_nobody_asks_triton_for_tf_servings_api() -> None:
    for row in (row for table in ALL.values() for row in table):
        assert is_tf_serving(row) == (not any(place.triton for place in row.places)), row.about


def test_only_triton_decides_what_is_said_to_be_its_word() -> None:
    for row in (row for table in ALL.values() for row in table):
        assert (row.source == TRITON) == (type(row.expect).__name__ == "AsTriton"), row.about
        assert isinstance(row.request, Http | Grpc)
