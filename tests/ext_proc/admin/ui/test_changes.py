"""What a page is told of a process: all at first, then what has changed, and all again after it was away."""

from typing import Any

from ext_proc.admin.ui import changes
from ext_proc.admin.ui.changes import Known
from tests.integration.dashboard import documents


def told(update: Any) -> tuple[Any, ...]:
    return update["whole"], dict(update["models"]), list(update.get("gone", ()))


def test_a_page_is_told_all_at_first_and_changes_from_then_on() -> None:
    known = Known("")
    assert known.whole() is None
    document = documents.edge(2, 2)
    known.see(1.0, document)
    assert told(known.since()) == (True, document["models"], [])
    first, second = document["models"]
    known.see(2.0, {**document, "models": {first: {"node-01": "draining"}, "new": {}}})
    assert told(known.since()) == (False, {first: {"node-01": "draining"}, "new": {}}, [second])
    assert told(known.whole()) == (True, {first: {"node-01": "draining"}, "new": {}}, [])
    known.see(3.0, {**document, "models": {first: {"node-01": "draining"}, "new": {}}})
    assert told(known.since()) == (False, {}, [])


def test_the_rest_of_the_document_comes_each_time_without_its_models() -> None:
    known = Known("10.0.0.1:9902")
    document = documents.edge(2, 2)
    for at in (1.0, 2.0):
        known.see(at, document)
        update = known.since()
        assert update is not None
        assert update["address"] == "10.0.0.1:9902"
        assert update["document"] == {name: value for name, value in document.items() if name != "models"}


def test_after_it_was_away_a_page_is_told_all_again() -> None:
    known = Known("a:1")
    known.see(1.0, documents.node(0, 1))
    known.miss(2.0, "no answer in time")
    assert known.whole() == known.since() == {"address": "a:1", "at": 2.0, "away": "no answer in time"}
    known.see(3.0, documents.node(0, 1))
    assert told(known.since())[0] is True
    assert len(told(known.since())[1]) == 1


def test_versions_of_a_model_are_one_entry_and_what_only_grows_older_is_no_change() -> None:
    known = Known("")
    document = documents.node(0, 1)
    (version,) = document["models"]
    document["models"] = [version, {**version, "version": 2, "state": "loading"}]
    known.see(1.0, document)
    (rows,) = told(known.since())[1].values()
    assert [row[:2] for row in rows] == [(1, "available"), (2, "loading")]
    document["models"] = [{**each, "idle_seconds": 9.0, "state_seconds": 99.0} for each in document["models"]]
    known.see(2.0, document)
    assert told(known.since()) == (False, {}, [])


def test_models_beyond_the_bound_are_counted(monkeypatch: Any) -> None:
    monkeypatch.setattr(changes, "MAX_MODELS", 3)
    known = Known("")
    known.see(1.0, {**documents.edge(2, 5), "models_not_shown": 10})
    update = known.whole()
    assert update is not None
    assert update["models_left_out"] == 12
    assert list(update["models"]) == ["model-00000", "model-00001", "model-00002"]
