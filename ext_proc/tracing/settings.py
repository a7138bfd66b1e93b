"""The `tracing:` section of the configuration."""

from pathlib import Path
from typing import Annotated

from pydantic import AfterValidator, Field, StringConstraints

from mesh.json_http import reachable
from mesh.settings import Settings


class TracingSettings(Settings):
    """Spans of sampled calls, sent to an OpenTelemetry collector. Needs the extra: pip install 'tbms[tracing]'."""

    endpoint: Annotated[
        str,
        StringConstraints(pattern=r"^https?://[^/@?#\s]+(/[^@?#\s]*)?$", max_length=300),
        AfterValidator(reachable),
    ] = Field(description="Where spans go: OTLP over HTTP, such as http://collector:4318/v1/traces.")
    sample_ratio: float = Field(
        0.0,
        ge=0,
        le=1,
        description="Share of the calls without a traceparent that are sampled; of any other its caller decides.",
    )
    service_name: str = Field(
        "", max_length=255, description="service.name of the spans; without it tbms-edge or tbms-node."
    )
    headers_file: Path | None = Field(
        None, description="Headers for the collector, such as a token, one `name: value` a line; read at a start."
    )
    ca: Path | None = Field(
        None, description="Authority of the collector's certificate (PEM); without it the known ones."
    )
    timeout: float = Field(10.0, gt=0, le=300, description="Seconds for one delivery, further tries included.")
    queue: int = Field(4096, ge=64, le=1_000_000, description="Spans that may wait; what is more is dropped.")
