"""Structured logs: one JSON object a line, or plain text for a terminal."""

import json
import logging
import sys
from typing import Any

JSON = "json"
"""The name in `extra` of fields that are JSON already: what stands between an object's braces.

What many lines a second have to say is written so by whoever says it, in a third of the time.
"""

# What a LogRecord has of its own; everything else came in `extra` and is part of the event.
_text = json.encoder.encode_basestring
_STANDARD = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}


class JsonFormatter(logging.Formatter):
    """One JSON object a record: time, level, logger, event, and the record's extra fields."""

    def __init__(self) -> None:
        super().__init__()
        self._encode = json.JSONEncoder(default=str, ensure_ascii=False).encode
        self._second = (-1, "")

    def format(self, record: logging.LogRecord) -> str:
        """The record as one line."""
        extra = _extra(record)
        written = extra.pop(JSON, None)
        told = extra.pop("event", None) or record.getMessage()
        line = (
            f'{{"time": "{self._time(record)}.{int(record.msecs):03d}", "level": "{record.levelname.lower()}", '
            f'"logger": {_text(record.name)}, "event": {_text(told)}'
        )
        if record.exc_info:
            extra["error"] = self.formatException(record.exc_info)
        if extra:
            line += f", {self._encode(extra)[1:-1]}"
        return f"{line}}}" if written is None else f"{line}, {written}}}"

    def _time(self, record: logging.LogRecord) -> str:
        """To the second: worked out once for all records of one."""
        second = int(record.created)
        if self._second[0] != second:
            self._second = (second, self.formatTime(record, "%Y-%m-%dT%H:%M:%S"))
        return self._second[1]


class TextFormatter(logging.Formatter):
    """For people: time, level, event, key=value."""

    def format(self, record: logging.LogRecord) -> str:
        """The record as one line (and a traceback, if there is one)."""
        extra = _extra(record)
        if written := extra.pop(JSON, None):
            extra.update(json.loads(f"{{{written}}}"))
        fields = " ".join(f"{key}={value}" for key, value in extra.items())
        line = f"{self.formatTime(record, '%H:%M:%S')} {record.levelname.lower():7} {record.getMessage()} {fields}"
        return line.rstrip() + (f"\n{self.formatException(record.exc_info)}" if record.exc_info else "")


def _extra(record: logging.LogRecord) -> dict[str, Any]:
    return {key: value for key, value in vars(record).items() if key not in _STANDARD}


def configure(level: str, style: str) -> None:
    """Sends all logs to standard error in `style` (`json` or `text`). Safe to call again at a reload."""
    # No line says where in the code, in which thread or process it was written (logging's documentation, Optimization).
    logging._srcfile = None
    logging.logThreads = logging.logProcesses = logging.logMultiprocessing = False
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonFormatter() if style == "json" else TextFormatter())
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level.upper())
