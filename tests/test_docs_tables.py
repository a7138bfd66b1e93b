"""Tables in documents say what the code does: each is read, and held against what it is about."""

import itertools
import re
from collections.abc import Iterator
from pathlib import Path
from typing import get_args

import pytest
from typer.main import get_command

from ext_proc.broker.effects import Effect, Why
from ext_proc.cli.exits import Exit
from ext_proc.cli.main import app
from ext_proc.contract import ELSEWHERE_HEADER
from ext_proc.edge.ways import Ground, Way
from ext_proc.errors import CallError, Reason
from ext_proc.node import refusals
from ext_proc.node.refusals import refusal
from ext_proc.processing.decision import Decision, Hold, Pass, Refuse, Respond
from ext_proc.processing.machine import Machine, State
from ext_proc.processing.request import StreamError
from ext_proc.wire.call import InferenceProtocol
from ext_proc.wire.reply import error_reply
from mesh.model_cache.books.states import LEGAL, ModelState
from mesh.model_cache.errors import BadName, Busy, CacheError, ModelBroken, ModelMissing, NoRoom, StoreAway
from mesh.routing.shortlist import Tier
from tests.ext_proc.processing import envoy_says as envoy
from tests.ext_proc.processing.test_machine import INPUTS, ROUTE, Policy, framed

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()
ARCHITECTURE = (ROOT / "docs/architecture.md").read_text()
MODEL_CACHE = (ROOT / "docs/model-cache.md").read_text()
CLI = (ROOT / "docs/cli.md").read_text()


def rows(document: str, heading: str) -> list[list[str]]:
    """The cells of the first table under a heading, without its head."""
    section = re.split(r"^## ", document.partition(f"## {heading}\n")[2], flags=re.M)[0]
    lines = itertools.dropwhile(lambda line: not line.startswith("|"), section.splitlines())
    found = itertools.takewhile(lambda line: line.startswith("|"), lines)
    table = [[cell.strip() for cell in line.split("|")[1:-1]] for line in found]
    assert len(table) > 2, heading
    return table[2:]


def followers(document: str, heading: str) -> dict[str, set[str]]:
    """State -> the states in the last column, which is empty for one that nothing follows."""
    return {row[0]: set(row[-1].split(", ")) - {""} for row in rows(document, heading)}


def test_the_states_of_a_model_are_those_of_the_books() -> None:
    assert followers(MODEL_CACHE, "States of a model on a node") == {
        str(state): {str(each) for each in LEGAL[state]} for state in ModelState
    }


def steps(decision: Decision | CallError, outcome: Decision) -> Iterator[tuple[State, State]]:
    """Every step that a call takes through the machine, for three messages in any order."""
    messages = INPUTS | {"whole": envoy.body(framed("bert"), end=True), "large": envoy.body(b"x" * 100)}
    for order in itertools.product(messages.values(), repeat=3):
        machine = Machine(Policy(decision, limit=50))
        try:
            for message in order:
                before = machine.state
                machine.receive(message, 0.0)
                yield before, machine.state
                if machine.held is not None:
                    before = machine.state
                    machine.decided(outcome)
                    yield before, machine.state
        except StreamError:
            continue


def test_the_states_of_a_call_are_those_of_the_machine() -> None:
    decisions = [
        ROUTE, Pass(), Hold(), Hold(collect=True), Refuse(CallError(Reason.INTERNAL, "x")), Respond(200, (), b""),
    ]  # fmt: skip
    taken: dict[str, set[str]] = {state.name: set() for state in State}
    for decision, outcome in itertools.product(decisions, (ROUTE, Respond(200, (), b""))):
        for before, after in steps(decision, outcome):
            if after is not before:
                taken[before.name].add(after.name)
    assert followers(ARCHITECTURE, "States of a call") == taken


def told(error: CallError) -> tuple[str, str, str]:
    """HTTP, gRPC and "elsewhere?" as the table writes them, out of the reply that a client gets."""
    reply = error_reply(InferenceProtocol.TFS_REST, error)
    headers = dict(reply.headers)
    again = ", `retry-after`" if "retry-after" in headers else ""
    return f"{reply.status}{again}", error.reason.grpc.name, "yes" if ELSEWHERE_HEADER in headers else "no"


def test_what_a_client_is_told_is_what_the_node_answers() -> None:
    by_words = {
        "no store has the model": ModelMissing("A."),
        "the model server refuses it": ModelBroken("A."),
        "larger than the node": NoRoom("A."),
        "no room just now": Busy("A."),
        "the store is away": StoreAway("A."),
        "a name that no model can have": BadName("A."),
    }
    assert {type(error) for error in by_words.values()} == set(refusals._REASONS)
    answers: dict[str, CacheError | CallError] = {
        **by_words,
        "it is damaged in its store": ModelBroken("A."),
        # `tests/ext_proc/node/test_policy.py` has the policy raise these two.
        "the caller's limit ended first": CallError(Reason.DEADLINE, "A."),
        "`node.hold_seconds` ended first": CallError(Reason.UNAVAILABLE, "A.", 1.0),
    }
    table = {row[0]: tuple(row[1:4]) for row in rows(MODEL_CACHE, "What a client is told")}
    for words, error in answers.items():
        (cells,) = [cells for first, cells in table.items() if first.startswith(words)]
        assert cells == told(refusal(error) if isinstance(error, CacheError) else error), words
    assert len(table) == len(answers)


def test_the_order_of_nodes_names_every_tier() -> None:
    (line,) = re.findall(r"^1\. what the node can do for the model: (.*?)$(?=\n2\.)", MODEL_CACHE, re.M | re.S)
    assert len(line.split(";")) - 1 == len(Tier)  # the line ends with one


@pytest.mark.parametrize(("word", "union"), [("decision", Decision), ("effect", Effect)])
def test_the_glossary_names_every_kind(word: str, union: object) -> None:
    (meaning,) = [row[1] for row in rows(ARCHITECTURE, "Glossary") if row[0] == word]
    assert set(re.findall(r"`(\w+)`", meaning)) == {kind.__name__ for kind in get_args(union)}


def test_the_readme_names_every_reason_of_an_answer() -> None:
    (words,) = re.findall(r"`why` is one\s+of ([^.]*)\.", README)
    assert set(re.split(r",\s+", words)) == {str(why) for why in Why}


def test_the_exit_statuses_of_the_page_are_those_of_the_commands() -> None:
    assert [int(row[0]) for row in rows(CLI, "Exit statuses")] == [int(each) for each in Exit]


@pytest.mark.parametrize(("head", "words"), [("way", Way), ("ground", Ground)])
def test_every_way_and_ground_is_on_the_page(head: str, words: type[Way] | type[Ground]) -> None:
    lines = itertools.dropwhile(lambda line: not line.startswith(f"| {head} |"), CLI.splitlines())
    told = [line.split("|")[1].strip(" `") for line in itertools.takewhile(lambda line: line.startswith("|"), lines)]
    assert told[2:] == [str(each) for each in words]


def test_the_commands_of_the_page_are_those_that_there_are() -> None:
    commands = get_command(app).commands  # type: ignore[attr-defined]
    there = {
        f"{name} {part}".strip()
        for name, command in commands.items()
        for part in (command.commands if hasattr(command, "commands") else ("",))
    }
    is_name = re.compile("[a-z][a-z-]*").fullmatch
    told = {
        " ".join(itertools.takewhile(is_name, typed.split()[1:]))
        for row in rows(CLI, "Commands")
        for typed in re.findall(r"`(tbms [^`]+)`", row[0])
    }
    assert told == there
