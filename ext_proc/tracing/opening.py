"""What a process traces with, where it is to: opened by its configuration, with OpenTelemetry's packages only then."""

import os
import platform
import re
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from random import getrandbits

from ext_proc.errors import ConfigError
from ext_proc.tracing.calls import DecisionNotes
from ext_proc.tracing.exporting import SpanQueue
from ext_proc.tracing.settings import TracingSettings
from ext_proc.tracing.tracer import Tracer
from mesh.small_file import read_small
from mesh.system_words import safe_words

_HEADER = re.compile(r"([!#$%&'*+.^_`|~0-9A-Za-z-]+)[ \t]*:[ \t]*([ -~]+)")


@dataclass(frozen=True, slots=True)
class Tracing:
    """The tracer of a process, the queue of its spans, and what the role says of its decisions."""

    tracer: Tracer
    queue: SpanQueue
    notes: DecisionNotes


def open_tracing(settings: TracingSettings, role: str, clock: Callable[[], float]) -> Tracing:
    """Spans go to the collector of the settings, once the queue is started. Raises ConfigError."""
    headers = {} if settings.headers_file is None else _headers(settings.headers_file)
    try:
        from ext_proc.tracing.otlp import otlp_export
    except ImportError as error:
        cause = f"tracing: the package {error.name} is not here; spans need an extra: pip install 'tbms[tracing]'"
        raise ConfigError(cause) from None
    if settings.ca is not None and not settings.ca.is_file():
        raise ConfigError(f"tracing.ca: there is no file {settings.ca}")
    resource = {
        "service.name": settings.service_name or f"tbms-{role}",
        "service.instance.id": f"{platform.node()}:{os.getpid()}",
        "tbms.role": role,
    }
    queue = SpanQueue(otlp_export(settings, resource, headers), settings.queue)
    return Tracing(Tracer(queue.put, settings.sample_ratio, clock, time.time, getrandbits), queue, DecisionNotes())


def _headers(file: Path) -> dict[str, str]:
    """The headers of a file. What is in it is never shown. Raises ConfigError."""
    try:
        lines = read_small(file).decode("ascii").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"tracing.headers_file: {file} cannot be read: {safe_words(error)}") from None
    headers: dict[str, str] = {}
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        found = _HEADER.fullmatch(line.strip())
        if found is None:
            raise ConfigError(f"tracing.headers_file: {file}: line {number} is no header: `name: value` is expected")
        headers[found[1].lower()] = found[2]
    return headers
