"""Formats log messages for standard error: one line each, as text or JSON.

`extra` holds the fields of a message. The field `fault` groups messages: messages with the
same fault are logged once, and then once a minute with their count.
"""

from __future__ import annotations

import asyncio
import logging
from datetime import UTC, datetime
from typing import Any, Final, Literal

from receiver.printable import is_unicode, printable, to_json

LogFormat = Literal["text", "json"]

STANDARD: Final = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}
SAID_ALREADY: Final = frozenset({"event", "fault", "status"})
"""Fields for programs, which text logs leave out: the message states the same."""
PERIOD: Final = 60.0
"""Seconds in which a fault is logged once."""


class IgnoreMalformedRequests(logging.Filter):
    """Drops aiohttp's messages about requests that are not HTTP."""

    def filter(self, record: logging.LogRecord) -> bool:
        """Return whether to keep the record."""
        kinds = record.exc_info[0].__mro__ if record.exc_info and record.exc_info[0] else ()
        # Compared by name, so that only serving commands import aiohttp.
        return not any(kind.__qualname__ == "HttpProcessingError" for kind in kinds)


class GroupUnexpectedErrors(logging.Filter):
    """Groups aiohttp's messages about failed handlers by the exception."""

    def filter(self, record: logging.LogRecord) -> bool:
        """Keep every record."""
        if record.exc_info and record.exc_info[0]:
            record.fault = record.exc_info[0].__name__
        return True


class AddFields(logging.Filter):
    """Adds the same fields to every log record, without replacing its own.

    Args:
        fields: The names and values of the fields.
    """

    def __init__(self, fields: dict[str, object]) -> None:
        super().__init__()
        self._fields = fields

    def filter(self, record: logging.LogRecord) -> bool:
        """Keep every record."""
        vars(record).update(self._fields | vars(record))
        return True


class MessageFormatter(logging.Formatter):
    """Formats the message alone, with control characters and line breaks escaped."""

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802  logging's name
        """Format the line, without a traceback."""
        return printable(super().formatMessage(record))

    def formatException(self, ei: Any) -> str:  # noqa: ANN401, N802  logging's
        """Format the traceback, indented, since an error may quote text that looks like a log."""
        lines = super().formatException(ei).splitlines()
        return "\n".join(f"    {printable(line)}" for line in lines)


class TextFormatter(MessageFormatter):
    """Formats a line of text: time, level, message and fields."""

    def __init__(self) -> None:
        super().__init__("%(asctime)s %(levelname)-7s %(message)s")

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802  logging's name
        """Format the line, without a traceback."""
        shown = [
            f"{name}={printable(str(value))}"
            for name, value in fields(record).items()
            if name not in SAID_ALREADY
        ]
        return super().formatMessage(record) + (f" [{' '.join(shown)}]" if shown else "")


class JsonFormatter(logging.Formatter):
    """Formats a JSON object per line: time (RFC 3339, UTC), level, logger, message and fields.

    Args:
        ascii_only: Whether to escape all but ASCII, for an output that is not Unicode.
    """

    def __init__(self, *, ascii_only: bool = False) -> None:
        super().__init__()
        self._ascii_only = ascii_only

    def format(self, record: logging.LogRecord) -> str:
        """Format the record as one line."""
        time = datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds")
        content = {
            "time": time.replace("+00:00", "Z"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
            **fields(record),
        }
        if record.exc_info:
            content["traceback"] = self.formatException(record.exc_info)
        return to_json(content, ascii_only=self._ascii_only)


def fields(record: logging.LogRecord) -> dict[str, Any]:
    """Return the fields given as `extra`."""
    return {name: value for name, value in vars(record).items() if name not in STANDARD}


class GroupingHandler(logging.StreamHandler[Any]):
    """Writes log records to standard error, and repeated ones of a fault once a minute.

    At the end of a minute the last repeated record is written, with their count as `repeated`.
    Outside of a running event loop, every record is written.
    """

    def __init__(self) -> None:
        super().__init__()
        self._again: dict[tuple[str, int, object], list[logging.LogRecord]] = {}

    def emit(self, record: logging.LogRecord) -> None:
        """Write the record, or count it."""
        fault = getattr(record, "fault", None)
        if fault is None or not self._is_known(record, (record.name, record.levelno, fault)):
            super().emit(record)

    def _is_known(self, record: logging.LogRecord, key: tuple[str, int, object]) -> bool:
        """Return whether the fault was logged already; if so, count it."""
        if key in self._again:
            again = self._again[key]
            record.repeated = 1 + (vars(again[0])["repeated"] if again else 0)
            # Formatted now, since the exception would keep the request in memory.
            record.msg, record.args, record.exc_info = record.getMessage(), None, None
            again[:] = [record]
            return True
        try:
            loop = asyncio.get_running_loop()
        except RuntimeError:
            return False
        self._again[key] = []
        loop.call_later(PERIOD, self._end_period, loop, key)
        return False

    def _end_period(self, loop: asyncio.AbstractEventLoop, key: tuple[str, int, object]) -> None:
        """Log the last counted message; if none was counted, forget the fault."""
        self.acquire()
        try:
            if again := self._again.get(key):
                super().emit(again.pop())
                loop.call_later(PERIOD, self._end_period, loop, key)
            else:
                self._again.pop(key, None)
        finally:
            self.release()

    def close(self) -> None:
        """Log the records that were only counted so far."""
        for again in self._again.values():
            for record in again:
                super().emit(record)
        self._again.clear()
        super().close()


def set_up_logging(level: str, form: LogFormat = "text", **common: object) -> None:
    """Log messages of `level` and above; those of asyncio from warnings on.

    Args:
        level: The least severe level.
        form: Text or JSON.
        common: Fields of every message.
    """
    handler = GroupingHandler()
    json = JsonFormatter(ascii_only=not is_unicode(handler.stream))
    handler.setFormatter(json if form == "json" else TextFormatter())
    handler.addFilter(AddFields(common))
    logging.basicConfig(level=level.upper(), handlers=[handler], force=True)
    server = logging.getLogger("aiohttp.server")
    server.addFilter(IgnoreMalformedRequests())
    server.addFilter(GroupUnexpectedErrors())
    logging.getLogger("asyncio").setLevel(logging.WARNING)
