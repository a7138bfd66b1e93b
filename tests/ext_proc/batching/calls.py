"""Calls and batch times for tests in virtual time (`ext_proc.planning.simulation`)."""

from ext_proc.batching.waiting import Waiting
from ext_proc.planning.simulation import Cost


def fixed(seconds: float) -> Cost:
    """Every batch costs the same: the seed's example."""
    return lambda model, rows: seconds


def call(model: str = "m", at: float = 0.0, **others: object) -> Waiting:
    """A call that may share a batch with any other of its model."""
    fields = {"key": "k", "rows": 1, "size": 100, **others}
    return Waiting(model, arrived=at, **fields)  # type: ignore[arg-type]


def by_server(model: str, at: float = 0.0, **others: object) -> Waiting:
    """A call of a model whose server gathers by itself."""
    return call(model, at, key=None, server_batches=True, **others)
