"""The base of every settings class: frozen, and unknown keys are an error."""

from typing import Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict, Field
from pydantic_core import ErrorDetails

from mesh.names import fault_sentence, name_fault


class Settings(BaseModel):
    """One section of the configuration. Rooms own their section; `ext_proc.config` composes them."""

    model_config = ConfigDict(frozen=True, extra="forbid")


def fault_place(fault: ErrorDetails) -> str:
    """Which setting a ValidationError's fault is about, such as `cache.capacity.models`; empty for the whole."""
    return ".".join(map(str, fault["loc"]))


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
