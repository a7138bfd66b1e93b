"""The word that nodes and edges share about a model: its residency on a node."""

from enum import IntEnum


class Residency(IntEnum):
    """The state of one model on one node. ABSENT also stands for: nothing is known."""

    ABSENT = 0
    AVAILABLE = 1
    LOADING = 2  # being fetched or loaded: a call joins the load that runs
    DRAINING = 3  # about to be unloaded
    FAILED = 4  # the node tried and could not
