"""The `recording` section of the configuration."""

from pathlib import Path

from pydantic import ByteSize, Field

from mesh.settings import Settings


class RecordingSettings(Settings):
    """What an edge keeps of its calls, for `tbms replay`: docs/whatif.md."""

    folder: Path | None = Field(
        default=None, description="Where the recording lies; without it nothing is recorded. It belongs to this edge."
    )
    file_bytes: ByteSize = Field(
        default=ByteSize(16 << 20),
        ge=64 << 10,
        le=1 << 30,
        description="Size at which a file is full; a call takes 10 to 20.",
    )
    files: int = Field(default=16, ge=2, le=10_000, description="Files that are kept; the oldest one goes.")
    seconds: float = Field(default=1.0, ge=0.1, le=60.0, description="For how long calls wait to be written together.")
