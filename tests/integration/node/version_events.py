"""What happens to the versions of a model in its store, and which version is served then: data, no code.

A row is one model. What lies in its folder is written down by path; a step changes it, and says what a call without a
version gets once the node has looked at the store again. A version multiplies [1, 2] by its factor.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TypeAlias


@dataclass(frozen=True)
class Version:
    """The files of a version, whole or the first half of each."""

    factor: float
    whole: bool = True


@dataclass(frozen=True)
class File:
    """A file that is no model's."""

    text: str = "odd"


@dataclass(frozen=True)
class Link:
    """A symbolic link."""

    target: str


@dataclass(frozen=True)
class Moved:
    """What lies at that path has this one now."""

    source: str


class Folder:
    """An empty folder."""


class Gone:
    """Nothing any more."""


Put: TypeAlias = Version | File | Link | Moved | Folder | Gone


@dataclass(frozen=True)
class Step:
    """`changes` are made, in order; then version `serves` is served, by `factor` (None: there is no such model).

    `tried`: a version that the node tries to load first, and cannot. `others`: what else can be had by its number.
    """

    changes: Mapping[str, Put]
    serves: int | None
    factor: float = 0.0
    tried: int | None = None
    others: Mapping[int, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Event:
    """One row. `triton`: the steps behind a Triton, where it reads a store otherwise than TF Serving.

    `alone`: whether a model server that has this very folder for its repository serves the same at the end, and
    `triton_alone` whether a Triton does; where one does not, `why`. None: it is not asked, for its Python backend
    waits without end for a process that has found no model.py.
    """

    about: str
    steps: tuple[Step, ...]
    triton: tuple[Step, ...] = ()
    alone: bool = True
    triton_alone: bool | None = True
    why: str = ""


ONE, TWO = Version(2.0), Version(3.0)
HALF = Version(3.0, whole=False)
# Of TF Serving and Triton, when they are started on it; a node never begins with a version that it cannot load whole.
NOT_FIRST = "A server that begins with this folder has no older version in use that it could stay with."
NO_FOLDERS = "Object stores have no empty folders, so to a node there are none anywhere."
NO_LINKS = "A link could lead out of the store, so a node follows none."

EVENTS = (
    Event("one version", (Step({"1": ONE}, 1, 2.0),)),
    Event("ten after nine", (Step({"9": ONE, "10": TWO}, 10, 3.0, others={9: 2.0}),)),
    Event(
        "a number with zeros beside one without",
        (Step({"1": ONE, "002": TWO}, 2, 3.0),),
        triton=(Step({"1": ONE, "002": TWO}, 1, 2.0),),
    ),
    Event(
        "only a number with zeros",
        (Step({"00000123": TWO}, 123, 3.0),),
        triton=(Step({"00000123": TWO}, None),),
    ),
    Event("two folders with one number", (Step({"1": ONE, "001": TWO}, 1, 2.0),)),
    Event("nine with zeros, before ten", (Step({"10": ONE, "009": TWO}, 10, 2.0),)),
    Event("a link beside the versions", (Step({"1": ONE, "latest": Link("1")}, 1, 2.0),)),
    Event(
        "a link to nowhere beside the versions",
        (Step({"1": ONE, "latest": Link("nowhere")}, 1, 2.0),),
        triton_alone=False,
        why="Triton asks when each name was changed, and takes no model where it cannot be told.",
    ),
    Event(
        "odd files beside the versions",
        (Step({"1": ONE, ".DS_Store": File(), "3": File(), "saved_model.pb": File(), "Thumbs.db": File()}, 1, 2.0),),
    ),
    Event(
        "odd folders beside the versions",
        (
            Step(
                {
                    "1": ONE,
                    "assets.extra/notes.txt": File(),
                    "__pycache__/model.cpython-311.pyc": File(),
                    "tmp.8x1k/model.onnx": File(),
                    "lost+found": Folder(),
                    "-2/model.onnx": File(),
                },
                1,
                2.0,
            ),
        ),
    ),
    Event(
        "odd files and folders inside a version",
        (
            Step(
                {
                    "1": ONE,
                    "1/.DS_Store": File(),
                    "1/assets.extra/notes.txt": File(),
                    "1/__pycache__/other.cpython-311.pyc": File(),
                    "1/tmp": Folder(),
                },
                1,
                2.0,
            ),
        ),
    ),
    Event(
        "an empty folder for a version",
        (Step({"1": ONE, "2": Folder()}, 1, 2.0),),
        alone=False,
        triton_alone=None,
        why=NO_FOLDERS,
    ),
    Event("nothing", (Step({"readme": File()}, None),)),
    Event(
        "a newer version takes over",
        (Step({"1": ONE}, 1, 2.0), Step({"2": TWO}, 2, 3.0, others={1: 2.0})),
    ),
    Event(
        "a version that is uploaded under a hidden name",
        (
            Step({"1": ONE, ".2.upload": HALF}, 1, 2.0),
            Step({".2.upload": TWO}, 1, 2.0),
            Step({"2": Moved(".2.upload")}, 2, 3.0),
        ),
    ),
    Event(
        "a newest version that is still uploaded",
        (Step({"1": ONE}, 1, 2.0), Step({"2": HALF}, 1, 2.0, tried=2), Step({"2": TWO}, 2, 3.0)),
    ),
    Event(
        "a newest version that stays broken",
        (Step({"1": ONE}, 1, 2.0), Step({"2": HALF}, 1, 2.0, tried=2)),
        alone=False,
        triton_alone=False,
        why=NOT_FIRST,
    ),
    Event(
        "a version that is a link",
        (Step({"1": ONE, ".next": TWO}, 1, 2.0), Step({"2": Link(".next")}, 1, 2.0)),
        alone=False,
        triton_alone=False,
        why=NO_LINKS,
    ),
    Event(
        "an empty folder beside the version in use",
        (Step({"1": ONE}, 1, 2.0), Step({"2": Folder()}, 1, 2.0)),
        alone=False,
        triton_alone=None,
        why=NO_FOLDERS,
    ),
    Event("the newest version is removed", (Step({"1": ONE, "2": TWO}, 2, 3.0), Step({"2": Gone()}, 1, 2.0))),
    Event(
        "the newest version is removed, and comes back",
        (Step({"1": ONE, "2": TWO}, 2, 3.0), Step({"2": Gone()}, 1, 2.0), Step({"2": Version(4.0)}, 2, 4.0)),
    ),
    Event("an older version is removed", (Step({"1": ONE, "2": TWO}, 2, 3.0), Step({"1": Gone()}, 2, 3.0))),
    Event(
        "the only version is removed",
        (Step({"1": ONE}, 1, 2.0), Step({"1": Gone()}, 1, 2.0)),
        alone=False,
        triton_alone=False,
        why="A model in use stays in use, for an empty list is as likely a mistake as a wish.",
    ),
    Event(
        "a version is replaced under its number",
        (Step({"1": ONE}, 1, 2.0), Step({"1": TWO}, 1, 2.0)),
        alone=False,
        triton_alone=False,
        why="A version is its number: TF Serving does not look again either; Triton does at its next load.",
    ),
)  # fmt: skip
