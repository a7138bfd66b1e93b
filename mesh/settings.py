"""The base of every settings class: frozen, and unknown keys are an error."""

from collections.abc import Sequence
from types import UnionType
from typing import Annotated, Literal, Union, get_args, get_origin

from pydantic import AfterValidator, BaseModel, ConfigDict, Field
from pydantic_core import ErrorDetails

from mesh.names import fault_sentence, name_fault


class Settings(BaseModel):
    """One section of the configuration. Rooms own their section; `ext_proc.config` composes them."""

    model_config = ConfigDict(frozen=True, extra="forbid")


def fault_place(fault: ErrorDetails) -> str:
    """Which setting a ValidationError's fault is about, such as `cache.capacity.models`; empty for the whole."""
    return ".".join(map(str, fault["loc"]))


def settings_at(kind: object, place: Sequence[str | int]) -> frozenset[str]:
    """The settings that there are beside the one at `place` of a section of this type; none where nobody can say.

    `place` is the `loc` of a fault, in which the member of a union that was read has a step of its own.
    """
    if isinstance(kind, type) and issubclass(kind, BaseModel):
        if len(place) <= 1:
            return frozenset(kind.model_fields)
        field = kind.model_fields.get(str(place[0]))
        return frozenset() if field is None else settings_at(field.annotation, place[1:])
    inner: Sequence[object] = get_args(kind)
    if get_origin(kind) is Annotated:
        return settings_at(inner[0], place)
    if get_origin(kind) in (Union, UnionType):
        tagged = [each for each in inner if place[0] in _tags(each)]
        inner, place = tagged or inner, place[1:] if tagged else place
    else:  # a list or a mapping
        place = place[1:]
    return frozenset().union(*(settings_at(each, place) for each in inner)) if place else frozenset()


def _tags(kind: object) -> set[object]:
    """The words that a section of this type may have in a field of fixed words, by which a union tells its members."""
    fields = kind.model_fields.values() if isinstance(kind, type) and issubclass(kind, BaseModel) else ()
    return {word for field in fields if get_origin(field.annotation) is Literal for word in get_args(field.annotation)}


def fault_words(fault: ErrorDetails) -> str:
    """What is wrong, without what Pydantic puts before words of ours."""
    return fault["msg"].removeprefix("Value error, ")


def _name(text: str) -> str:
    fault = name_fault(text)
    if fault is None:
        return text
    raise ValueError(fault_sentence("model name", text, fault))


ModelName = Annotated[str, Field(min_length=1), AfterValidator(_name)]
"""A model's name in the configuration; the rule is that of `mesh.names`."""
