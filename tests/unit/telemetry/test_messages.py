from __future__ import annotations

import io
import json
import logging
from collections.abc import Iterator
from datetime import datetime

import pytest

from receiver.telemetry import messages as log
from receiver.telemetry.messages import GroupingHandler, set_up_logging
from tests.waiting import until

logger = logging.getLogger("tests.something")


@pytest.fixture
def written() -> Iterator[io.StringIO]:
    """Capture log output; restore the previous logging at the end."""
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    for handler in handlers:
        root.removeHandler(handler)
    yield io.StringIO()
    root.handlers[:] = handlers
    root.setLevel(level)


def begin(written: io.StringIO, form: log.LogFormat, **common: object) -> GroupingHandler:
    set_up_logging("info", form, **common)
    (handler,) = logging.getLogger().handlers
    assert isinstance(handler, GroupingHandler)
    handler.setStream(written)
    return handler


def test_json_is_one_object_a_line(written: io.StringIO) -> None:
    begin(written, "json", worker=2)
    logger.debug("not told")
    logger.info("two\nlines, 한국어 %d", 1, extra={"request_id": "x", "odd": object})
    try:
        int("a fault")
    except ValueError:
        logger.exception("failed")
    first, second = map(json.loads, written.getvalue().splitlines())
    assert datetime.fromisoformat(first.pop("time")).utcoffset() is not None
    assert first == {
        "level": "info",
        "logger": "tests.something",
        "message": "two\nlines, 한국어 1",
        "request_id": "x",
        "odd": "<class 'object'>",
        "worker": 2,
    }
    assert second["level"] == "error"
    assert second["traceback"].endswith("'a fault'")


def test_text_ends_with_the_fields(written: io.StringIO) -> None:
    begin(written, "text")
    logger.info("plain")
    logger.warning("503 gone", extra={"fault": "gone", "status": 503, "request_id": "x"})
    plain, fault = written.getvalue().splitlines()
    assert plain.endswith(" INFO    plain")
    assert fault.endswith(" WARNING 503 gone [request_id=x]")


async def test_a_fault_is_told_once_and_then_counted(
    written: io.StringIO, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(log, "PERIOD", 0.2)
    begin(written, "json")
    for number in range(100):
        logger.warning("fault %d", number, extra={"fault": "a"})
    logger.warning("another", extra={"fault": "b"})
    logger.warning("no fault")
    logger.warning("no fault")

    def lines() -> list[tuple[str, int | None]]:
        found = map(json.loads, written.getvalue().splitlines())
        return [(line["message"], line.get("repeated")) for line in found]

    told: list[tuple[str, int | None]] = [
        ("fault 0", None),
        ("another", None),
        ("no fault", None),
        ("no fault", None),
    ]
    assert lines() == told
    await until(lambda: len(lines()) > len(told))
    told.append(("fault 99", 99))
    assert lines() == told
    (handler,) = logging.getLogger().handlers
    assert isinstance(handler, GroupingHandler)
    await until(lambda: not handler._again)
    logger.warning("after a quiet period", extra={"fault": "a"})
    assert lines() == [*told, ("after a quiet period", None)]


async def test_what_was_counted_is_told_in_the_end(written: io.StringIO) -> None:
    handler = begin(written, "text")
    for _ in range(3):
        logger.error("fault", extra={"fault": "a"})
    handler.close()
    assert [line.partition("fault")[2] for line in written.getvalue().splitlines()] == [
        "",
        " [repeated=2]",
    ]


def test_without_a_loop_everything_is_told(written: io.StringIO) -> None:
    begin(written, "text")
    for _ in range(3):
        logger.error("fault", extra={"fault": "a"})
    assert written.getvalue().count("fault") == 3


FORGED = "a\n2026-11-01 00:00:00,000 INFO    forged\r\x1b[2J\u202e\x9b"


def test_nothing_that_is_quoted_becomes_a_line_of_its_own(written: io.StringIO) -> None:
    begin(written, "text")
    logger.warning("path %s", FORGED, extra={"request_id": FORGED})
    (line,) = written.getvalue().splitlines()
    assert line.isprintable()
    assert line.count(r"a\n2026-11-01 00:00:00,000 INFO    forged\r\x1b[2J\u202e\x9b") == 2


def test_an_error_in_a_traceback_is_no_line_of_the_log(written: io.StringIO) -> None:
    begin(written, "text")

    def fail() -> None:
        raise ValueError(FORGED)

    try:
        fail()
    except ValueError:
        logger.exception("failed")
    first, *others = written.getvalue().split("\n")[:-1]
    assert first.endswith(" ERROR   failed")
    assert others[0] == "    Traceback (most recent call last):"
    assert all(line.startswith("    ") and line.isprintable() for line in others)
    assert "    2026-11-01 00:00:00,000 INFO    forged" in others


def test_json_escapes_what_is_quoted(written: io.StringIO) -> None:
    begin(written, "json")
    logger.warning("%s", FORGED, extra={"request_id": FORGED})
    (line,) = written.getvalue().splitlines()
    assert line.isprintable()
    found = json.loads(line)
    assert found["message"] == found["request_id"] == FORGED


def test_json_is_ascii_where_the_output_is_not_unicode() -> None:
    record = logging.makeLogRecord({"msg": "한국어 é 👩"})
    line = log.JsonFormatter(ascii_only=True).format(record)
    assert line.isascii()
    assert json.loads(line)["message"] == "한국어 é 👩"
