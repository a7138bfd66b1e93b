"""Which way a call goes at a node: the words of `tbms explain`."""

from enum import StrEnum


class NodeWay(StrEnum):
    """What becomes of a call at a node."""

    RESIDENT = "resident"
    """It passes to the model server: its model is there."""
    HELD = "held"
    """It waits until its model is fetched and loaded."""
    GATHERED = "gathered"
    """It is held for company, and goes on as part of a batch; its model is loaded before, if need be."""
    PASSED = "passed"
    """It asks for no inference, or only for states: it brings no model."""
    REFUSED = "refused"
    """It is answered with an error."""
