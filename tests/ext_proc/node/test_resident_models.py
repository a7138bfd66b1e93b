"""What a node's Envoy may know: who comes in, who goes, and when it is said."""

from ext_proc.node.resident_models import IDLE_SECONDS, ResidentModels
from mesh.known_map import PARTS
from mesh.routing.settings import KnownSettings

REST, GRPC = 1, 16
SHARES = {"rest": ((PARTS, ("127.0.0.1:8501",)),), "grpc": ((PARTS, ("127.0.0.1:8500",)),)}


class Node:
    def __init__(self, models: int = 100) -> None:
        self.now = 50.0
        self.there = {"a", "b", "c"}
        settings = KnownSettings(models=models, seconds=1.0)
        self.models = ResidentModels(settings, lambda model: model in self.there, SHARES)  # type: ignore[arg-type]
        self.models.is_open = True

    def call(self, *names: str, form: int = REST, times: int = 2) -> None:
        for name in names:
            for _ in range(times):
                self.models.called(name, form, self.now)

    def look(self, after: float = 1.0) -> set[str]:
        self.now += after
        for _ in self.models.look(self.now):
            pass
        return {model.name for model in self.models.models}


def test_the_second_of_two_calls_brings_a_model_in() -> None:
    node = Node()
    node.call("a", times=1)
    assert node.look() == set()
    assert node.models.version == 1, "the first table is said though it is empty"
    node.call("a", times=1)
    assert node.look() == {"a"}
    (known,) = node.models.models
    assert (known.forms, known.shares, known.tells) == (REST, SHARES, False)


def test_two_calls_that_are_far_apart_do_not() -> None:
    node = Node()
    for _ in range(3):
        node.call("a", times=1)
        assert node.look(IDLE_SECONDS + 1) == set()


def test_each_form_in_which_it_is_called_is_known() -> None:
    node = Node()
    node.call("a")
    node.look()
    node.call("a", form=GRPC, times=1)
    node.look()
    assert node.models.models[0].forms == REST | GRPC


def test_nothing_is_said_twice() -> None:
    node = Node()
    node.call("a", "b")
    assert node.look() == {"a", "b"}
    version = node.models.version
    node.call("a")
    assert node.look() == {"a", "b"}
    assert node.models.version == version


def test_a_model_stays_for_as_long_as_envoy_tells_of_its_calls() -> None:
    node = Node()
    node.call("a", "b")
    assert node.look() == {"a", "b"}
    for _ in range(20):
        node.models.carried("a", node.now)
        assert "a" in node.look()
    assert node.look(0.0) == {"a"}
    assert node.look(IDLE_SECONDS + 1) == set()


def test_of_one_that_is_called_often_not_every_call_is_told() -> None:
    node = Node()
    node.call("a", "b")
    node.look()
    for _ in range(60):
        node.models.carried("a", node.now, 60)
        node.models.carried("b", node.now, 10)
        node.look()
    assert {model.name: model.sampled for model in node.models.models} == {"a": True, "b": False}
    for _ in range(60):
        node.models.carried("a", node.now, 30)
        node.look()
    assert [model.sampled for model in node.models.models if model.name == "a"] == [True], "it has not cooled down"
    for _ in range(60):
        node.models.carried("a", node.now, 20)
        node.look()
    assert [model.sampled for model in node.models.models if model.name == "a"] == [False]


def test_one_that_may_not_pass_any_more_goes_at_once() -> None:
    node = Node()
    node.call("a", "b")
    node.look()
    node.there.discard("a")
    node.models.lost("a", node.now + 0.05)
    assert node.models.wake_up == node.now + 0.1, "the gap that Envoy needs between two files"
    assert node.look(0.1) == {"b"}


def test_one_that_goes_while_the_table_is_made_is_not_in_it() -> None:
    node = Node(models=1000)
    node.there = {f"m{n}" for n in range(500)}
    node.call(*sorted(node.there))
    node.now += 1
    steps = node.models.look(node.now)
    for _ in range(2):
        next(steps)
    node.there.discard("m0")
    node.models.lost("m0", node.now)
    assert list(steps) == []
    assert {model.name for model in node.models.models} == node.there
    assert node.models.wake_up <= node.now + 0.1


def test_who_cannot_hear_envoy_has_it_know_nothing() -> None:
    node = Node()
    node.call("a")
    node.look()
    node.models.is_open = False
    assert node.look() == set()
    node.models.is_open = True
    assert node.look() == {"a"}


def test_a_model_whose_calls_fail_stays_out_longer_each_time() -> None:
    node = Node()
    out = []
    for _ in range(9):
        node.call("a")
        while node.look(0.25) == set():
            node.call("a")
        node.models.failed("a", node.now)
        failed = node.now
        assert node.look(0.1) == set()
        while node.look(0.25) == set():
            node.call("a")
        out.append(node.now - failed)
    assert [round(each) for each in out[:6]] == [1, 2, 4, 8, 16, 32]
    assert max(out) < 66
    while node.now < failed + 300:
        node.models.carried("a", node.now)
        node.look()
    node.models.failed("a", node.now)
    failed = node.now
    while node.look(0.25) == set():
        node.call("a")
    assert node.now - failed < 2, "what was long ago counts no more"


def test_a_full_map_keeps_whom_it_has_and_takes_the_latest() -> None:
    node = Node(models=2)
    node.call("a")
    node.look()
    node.call("b")
    node.now += 0.5
    node.call("c")
    assert node.look() == {"a", "c"}
    node.there.discard("a")
    assert node.look() == {"b", "c"}
