"""Finds: the entries of an answer, held against those of the answer before."""

from typing import Any

import pytest

from mesh.discovery.finds import MOST_ENTRIES, Finds
from mesh.discovery.merge import NodeSet
from mesh.errors import MeshError
from mesh.node import Node


def entry(name: Any = "a", **fields: Any) -> dict[str, Any]:
    return {"id": name, "grpc": "10.0.0.1:8500", **fields}


def answer(finds: Finds, *entries: dict[str, Any]) -> NodeSet:
    for each in entries:
        finds.add(each)
    return finds.node_set()


def test_an_entry_that_is_said_again_is_the_node_that_it_was() -> None:
    finds = Finds()
    (first,) = answer(finds, entry(models=["m"])).nodes
    (second,) = answer(finds, entry(models=["m"])).nodes
    assert second is first == Node("a", "10.0.0.1:8500", models=frozenset({"m"}))


@pytest.mark.parametrize("fields", [{"grpc": "10.0.0.2:8500"}, {"weight": 2}, {"models": ["n"]}, {"zone": "west"}])
def test_one_that_changed_is_judged_anew_and_believed(fields: dict[str, Any]) -> None:
    finds = Finds()
    answer(finds, entry(models=["m"]))
    assert answer(finds, entry(**fields)) == answer(Finds(), entry(**fields))


@pytest.mark.parametrize("bad", [{"grpc": "models:8500"}, {"weight": -1}, {"models": "m"}, {"colour": "red"}])
def test_one_that_went_bad_is_left_out_until_it_is_well_again(bad: dict[str, Any]) -> None:
    finds = Finds()
    well = answer(finds, entry())
    for _ in range(2):
        ill = answer(finds, entry(**bad))
        assert ill.nodes == ()
        assert len(ill.conflicts) == 1
    assert answer(finds, entry()) == well


@pytest.mark.parametrize("name", [None, 7, ["a"], {}])
def test_an_id_of_another_type_is_left_out(name: Any) -> None:
    finds = Finds()
    for _ in range(2):
        assert answer(finds, entry(name)).nodes == ()


def test_of_one_answer_nothing_is_left_for_the_next() -> None:
    finds = Finds()
    answer(finds, entry(), entry("b", grpc="10.0.0.2:8500"), entry("?"))
    assert answer(finds) == NodeSet((), ())


def test_the_entries_of_each_answer_are_counted_anew() -> None:
    finds = Finds()
    for _ in range(MOST_ENTRIES):
        finds.refuse("x", "bad")
    finds.node_set()
    for _ in range(MOST_ENTRIES):
        finds.refuse("x", "bad")
    with pytest.raises(MeshError, match="more than"):
        finds.refuse("x", "bad")
