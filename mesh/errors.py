"""The one error root of this package."""


class MeshError(Exception):
    """Something about the population of nodes or models is wrong; the message is one sentence."""
