"""What a changed fleet is made of."""

import pytest

from ext_proc.cli.replay.fleet import read_change
from ext_proc.errors import TbmsError
from ext_proc.planning.fleet.change import Amount, FleetChange, read_amount
from ext_proc.recording.calls import RecordedNode

NODES = (RecordedNode("b", slots=4, held=("m",)), RecordedNode("a", slots=2), RecordedNode("c", slots=4))


def fleet(change: FleetChange) -> dict[str, int | None]:
    return {node.id: node.slots for node in change.fleet(NODES)}


def test_the_last_nodes_by_id_go() -> None:
    assert fleet(FleetChange(nodes=Amount(-1, True))) == {"a": 2, "b": 4}
    assert fleet(FleetChange(nodes=Amount(1))) == {"a": 2}
    assert fleet(FleetChange(without=("b",))) == {"a": 2, "c": 4}


def test_a_new_node_is_empty_and_has_the_usual_slots() -> None:
    added = FleetChange(nodes=Amount(1, True)).fleet(NODES)[-1]
    assert (added.id, added.slots, added.held) == ("new-1", 4, ())


def test_slots_are_those_of_each_node() -> None:
    assert fleet(FleetChange(slots=Amount(3, True))) == {"a": 5, "b": 7, "c": 7}
    assert fleet(FleetChange(slots=Amount(3))) == {"a": 3, "b": 3, "c": 3}


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (FleetChange(nodes=Amount(-3, True)), "none left"),
        (FleetChange(nodes=Amount(5000)), "1000"),
        (FleetChange(without=("d",)), "there were a, b, c"),
        (FleetChange(slots=Amount(-2, True)), "'a' would have no place"),
    ],
)
def test_a_change_that_cannot_be_is_told(change: FleetChange, told: str) -> None:
    with pytest.raises(TbmsError, match=told):
        change.fleet(NODES)


def test_nothing_is_added_to_a_node_without_a_limit() -> None:
    with pytest.raises(TbmsError, match="no limit"):
        FleetChange(slots=Amount(1, True)).fleet([RecordedNode("a")])


def test_words_of_the_command_line_make_a_change_that_says_them_again() -> None:
    change, config = read_change("node-config=b.yaml nodes=-1, slots=+50 replicas=3 limit-ms=80 without=b no-backups")
    assert change == FleetChange(Amount(-1, True), ("b",), Amount(50, True), replicas=3, limit_ms=80.0, backups=False)
    assert str(config) == "b.yaml"
    assert change.name == "nodes -1, without b, slots +50, replicas 3, limit-ms 80, no backups"


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("nods=1", "Did you mean 'nodes'"),
        ("nodes=few", "number was expected"),
        ("replicas=0", "from 1 on"),
        ("answer=later", "best or first"),
        ("limit-ms=inf", "above 0"),
        ("", "nothing is changed"),
    ],
)
def test_words_that_say_nothing_are_told(text: str, told: str) -> None:
    with pytest.raises(TbmsError, match=told):
        read_change(text)


def test_an_amount_is_a_number_or_a_difference() -> None:
    assert read_amount("+2", "nodes").of(5) == 7
    assert read_amount("2", "nodes").of(5) == 2
