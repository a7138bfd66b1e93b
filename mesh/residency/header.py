"""What a node says of a model in the head of a reply, to an edge that asks: the edge does not hear it otherwise.

    request:  x-tbms-residency: ?1
    reply:    x-tbms-residency: available;leaving

Structured fields (RFC 9651): a boolean that asks, and a token, the state of the model that was called, with the
parameter `leaving` if the node has announced that it goes. A reader passes over parameters that it does not know.
"""

from mesh.residency.state import Residency

MAX_LENGTH = 128
"""Characters of a value that is read at all."""

_WORDS = {state: state.name.lower() for state in Residency}
_STATES = {word: state for state, word in _WORDS.items()}


def write_word(state: Residency, leaving: bool) -> str:
    """The header's value in a reply."""
    return f"{_WORDS[state]};leaving" if leaving else _WORDS[state]


def read_word(value: str | None) -> tuple[Residency, bool] | None:
    """State, and whether the node goes; None for what no node says."""
    if value is None or len(value) > MAX_LENGTH:
        return None
    word, *parameters = value.split(";")
    state = _STATES.get(word)
    return None if state is None else (state, any(each.strip(" ") in ("leaving", "leaving=?1") for each in parameters))
