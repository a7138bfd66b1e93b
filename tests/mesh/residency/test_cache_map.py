import tracemalloc

from hypothesis import given
from hypothesis import strategies as st

from mesh.residency.cache_map import CacheMap
from mesh.residency.state import Residency
from tests.mesh.routing.population import models

AVAILABLE, LOADING, ABSENT = Residency.AVAILABLE, Residency.LOADING, Residency.ABSENT

names = st.sampled_from(["digits", "svm", "bayes", "centroid"])
node_ids = st.sampled_from(["a", "b", "c"])
states = st.sampled_from(list(Residency))
steps = st.one_of(
    st.tuples(st.just("declare"), node_ids, st.frozensets(names)),
    st.tuples(st.just("snapshot"), node_ids, st.dictionaries(names, states)),
    st.tuples(st.just("change"), node_ids, names, states),
    st.tuples(st.just("forget"), node_ids),
)


class Model:
    """What the map should say, written down the long way."""

    def __init__(self) -> None:
        self.known: dict[str, dict[str, Residency]] = {}
        self.live: set[str] = set()
        self.declared: set[str] = set()

    def declare(self, node_id: str, held: frozenset[str]) -> None:
        if node_id in self.live:
            return
        self.known[node_id] = dict.fromkeys(held, AVAILABLE)
        self.declared.discard(node_id)
        if held:
            self.declared.add(node_id)

    def snapshot(self, node_id: str, held: dict[str, Residency]) -> None:
        self.live.add(node_id)
        self.declared.discard(node_id)
        self.known[node_id] = {model: state for model, state in held.items() if state is not ABSENT}

    def change(self, node_id: str, model: str, state: Residency) -> None:
        if node_id not in self.live:
            self.snapshot(node_id, {})
        self.known[node_id][model] = state
        if state is ABSENT:
            del self.known[node_id][model]

    def forget(self, node_id: str) -> None:
        self.known.pop(node_id, None)
        self.live.discard(node_id)
        self.declared.discard(node_id)


@given(st.lists(steps, max_size=30))
def test_the_map_says_what_it_was_told(history: list[tuple[object, ...]]) -> None:
    cache_map, model = CacheMap(), Model()
    for name, *arguments in history:
        getattr(cache_map, str(name))(*arguments)
        getattr(model, str(name))(*arguments)
        held = {held for known in model.known.values() for held in known}
        assert len(cache_map) == len(held)
        for asked in ("digits", "svm", "bayes", "centroid"):
            expected = {node_id: known[asked] for node_id, known in model.known.items() if asked in known}
            assert cache_map.holders(asked) == expected
            assert all(cache_map.state(n, asked) is expected.get(n, ABSENT) for n in ("a", "b", "c", "stranger"))
        assert {n for n in "abc" if cache_map.is_declared(n)} == model.declared
        assert cache_map.has_declarations is bool(model.declared)


@given(st.lists(steps, max_size=30))
def test_whoever_compares_row_and_generation_never_believes_what_is_no_longer_so(
    history: list[tuple[object, ...]],
) -> None:
    cache_map = CacheMap()
    remembered: dict[tuple[str, int, int], object] = {}
    rows: list[bytes | None] = []  # kept, so that no identity is used twice
    for name, *arguments in history:
        getattr(cache_map, str(name))(*arguments)
        for asked in ("digits", "svm", "bayes", "centroid"):
            rows.append(cache_map.row(asked))
            key = (asked, cache_map.generation, id(rows[-1]))
            fact = (cache_map.holders(asked), [n for n in "abc" if cache_map.is_declared(n)])
            assert remembered.setdefault(key, fact) == fact


def test_a_report_takes_the_place_of_the_declaration_for_good() -> None:
    cache_map = CacheMap()
    cache_map.declare("a", {"digits"})
    cache_map.change("a", "svm", LOADING)
    assert cache_map.holders("digits") == {}
    cache_map.declare("a", {"digits"})
    assert cache_map.holders("digits") == {}
    assert not cache_map.is_declared("a")


def test_nodes_that_come_and_go_leave_nothing_behind() -> None:
    cache_map = CacheMap()
    for number in range(1_000):
        cache_map.change(f"pod-{number}", "digits", AVAILABLE)
        cache_map.forget(f"pod-{number - 1}")
    assert cache_map.holders("digits") == {"pod-999": AVAILABLE}
    assert len(cache_map.row("digits") or b"") <= 2
    cache_map.forget("pod-999")
    assert len(cache_map) == 0


def test_a_hit_on_one_model_leaves_the_rows_of_the_others_alone() -> None:
    cache_map = CacheMap()
    cache_map.snapshot("a", {"digits": AVAILABLE, "svm": AVAILABLE})
    digits, generation = cache_map.row("digits"), cache_map.generation
    cache_map.change("a", "svm", LOADING)
    assert cache_map.row("digits") is digits
    assert cache_map.generation == generation


def test_ten_thousand_models_on_each_of_a_hundred_nodes_take_a_few_mebibytes() -> None:
    names = models(10_000)
    tracemalloc.start()
    try:
        cache_map = CacheMap()
        for number in range(100):
            # Fresh strings, as they come from the wire: the map must not keep a copy for each node.
            cache_map.snapshot(f"node-{number}", {"".join(("v", name)): AVAILABLE for name in names})
        used, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert len(cache_map.holders("v" + names[7])) == 100
    assert used <= 5 * 2**20


def test_a_leaving_node_keeps_what_it_holds_and_moves_the_generation_once() -> None:
    cache_map = CacheMap()
    cache_map.snapshot("a", {"digits": AVAILABLE, "svm": LOADING})
    cache_map.snapshot("b", {"digits": LOADING})
    before = cache_map.generation
    cache_map.leave("a")
    cache_map.leave("a")
    assert cache_map.generation == before + 1
    assert cache_map.leaving == {"a"}
    assert cache_map.is_leaving("a")
    assert cache_map.models("a") == {"digits": AVAILABLE, "svm": LOADING}
    assert cache_map.models("nobody") == {}
    cache_map.leave("a", False)
    assert not cache_map.is_leaving("a")
    cache_map.leave("a")
    cache_map.forget("a")
    assert cache_map.leaving == set()
