"""The base of every settings class: frozen, and unknown keys are an error."""

from pydantic import BaseModel, ConfigDict


class Settings(BaseModel):
    """One section of the configuration. Rooms own their section; `ext_proc.config` composes them."""

    model_config = ConfigDict(frozen=True, extra="forbid")
