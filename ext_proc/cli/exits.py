"""Exit statuses of `tbms`, and the errors that have one of their own. docs/cli.md has the table."""

from collections.abc import Iterable
from enum import IntEnum

from ext_proc.errors import AwayError, TbmsError
from mesh.near_names import near_names


class Exit(IntEnum):
    """What a status says; 0 is that all went well. Those of click are its own: 2 for a command line that is wrong."""

    DONE = 0
    FAILED = 1
    """The command could not do what it was asked for: a wrong file, a node that refuses, a race not reproduced."""
    USAGE = 2
    """The command line is wrong."""
    DIFFERENT = 3
    """`plan --check-batching`: rows differ in company."""
    NEVER_SAME = 4
    """The same: rows differ even alone."""
    ONE_ROW = 5
    """The same: nothing differed, but all rows are one."""
    AWAY = 6
    """An admin port has not answered. What others have said was shown all the same."""
    UNKNOWN_NAME = 7
    """No such model, version of one, or node."""


class UnknownName(TbmsError):
    """There is no model or node of that name; the sentence has the nearest ones."""


def unknown(what: str, name: str, names: Iterable[str]) -> UnknownName:
    """The error for a name that none of `names` is."""
    return UnknownName(f"No {what} {name!a} is known. {near_names(name, names)}".rstrip())


def status_of(error: Exception) -> Exit:
    """The exit status for an error."""
    if isinstance(error, AwayError):
        return Exit.AWAY
    return Exit.UNKNOWN_NAME if isinstance(error, UnknownName) else Exit.FAILED
