"""What a room catches as a mistake of its own, logs with its traceback and goes on from: here it comes out."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager


class _Alarm(logging.Handler):
    def emit(self, record: logging.LogRecord) -> None:
        error = record.exc_info[1] if record.exc_info else None
        if record.levelno >= logging.ERROR and error is not None:
            raise error


@contextmanager
def alarmed() -> Iterator[None]:
    """Within the block every exception that is logged as an error is raised out of the logging of it."""
    handler, root = _Alarm(), logging.getLogger()
    level, handlers, raises = root.level, root.handlers, logging.raiseExceptions
    root.handlers, logging.raiseExceptions = [handler], True
    root.setLevel(logging.ERROR)
    try:
        yield
    finally:
        root.handlers, logging.raiseExceptions = handlers, raises
        root.setLevel(level)
