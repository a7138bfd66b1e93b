"""Log lines."""

import json
import logging
import sys

from ext_proc.telemetry.logs import JsonFormatter, TextFormatter


def record(**extra: object) -> logging.LogRecord:
    made = logging.getLogger("tbms.test").makeRecord(
        "tbms.test", logging.WARNING, __file__, 1, "call %s", ("refused",), None, extra=extra
    )
    made.created, made.msecs = 0.0, 0.0
    return made


def test_a_json_line_has_the_event_and_its_fields() -> None:
    line = json.loads(JsonFormatter().format(record(request_id="r-1", model="m")))
    assert line["event"] == "call refused"
    assert line["level"] == "warning"
    assert line["request_id"] == "r-1"
    assert line["model"] == "m"


def test_what_is_no_json_is_written_as_text() -> None:
    line = json.loads(JsonFormatter().format(record(path=object)))
    assert "object" in line["path"]


def test_an_exception_is_part_of_its_line() -> None:
    made = record()
    try:
        raise ValueError("broken")
    except ValueError:
        made.exc_info = sys.exc_info()
    assert "broken" in json.loads(JsonFormatter().format(made))["error"]
    assert "broken" in TextFormatter().format(made)


def test_a_text_line_is_for_people() -> None:
    assert TextFormatter().format(record(model="m")).endswith("warning call refused model=m")
