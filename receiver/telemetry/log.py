"""How log messages look: to standard error, one line each, for people or as JSON.

What a message is about beside its text is given as `extra`. One of these fields has a meaning of
its own: messages with the same `fault` are told once, and then once a minute how often they came.
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
"""Fields for programs: the text says the same to people."""
PERIOD: Final = 60.0
"""Seconds in which a fault is told once."""


class IgnoreMalformedRequests(logging.Filter):
    """Drops what aiohttp logs with a traceback about requests that are not HTTP."""

    def filter(self, record: logging.LogRecord) -> bool:
        """Whether to keep the record."""
        kinds = record.exc_info[0].__mro__ if record.exc_info and record.exc_info[0] else ()
        # By name: commands that serve nothing need not import it.
        return not any(kind.__qualname__ == "HttpProcessingError" for kind in kinds)


class GroupUnexpectedErrors(logging.Filter):
    """Makes a fault of what aiohttp logs with a traceback about a handler that failed."""

    def filter(self, record: logging.LogRecord) -> bool:
        """Keep every record."""
        if record.exc_info and record.exc_info[0]:
            record.fault = record.exc_info[0].__name__
        return True


class AddFields(logging.Filter):
    """Adds the same fields to every record, but not over its own.

    Args:
        fields: Their names and values.
    """

    def __init__(self, fields: dict[str, object]) -> None:
        super().__init__()
        self._fields = fields

    def filter(self, record: logging.LogRecord) -> bool:
        """Keep every record."""
        vars(record).update(self._fields | vars(record))
        return True


class MessageFormatter(logging.Formatter):
    """The message alone, whatever it quotes: no part of it is a line or a command of its own."""

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802  logging's name
        """Format the line, without a traceback."""
        return printable(super().formatMessage(record))

    def formatException(self, ei: Any) -> str:  # noqa: ANN401, N802  logging's
        """Format the traceback, indented: an error may quote what looks like a line of the log."""
        lines = super().formatException(ei).splitlines()
        return "\n".join(f"    {printable(line)}" for line in lines)


class TextFormatter(MessageFormatter):
    """A line for people: time, level, message, and the fields at its end."""

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
    """A JSON object a line: time (RFC 3339, UTC), level, logger, message, and the fields.

    Args:
        ascii_only: Escape all but ASCII, for an output that is not Unicode.
    """

    def __init__(self, *, ascii_only: bool = False) -> None:
        super().__init__()
        self._ascii_only = ascii_only

    def format(self, record: logging.LogRecord) -> str:
        """The line."""
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
    """What the record was given as `extra`."""
    return {name: value for name, value in vars(record).items() if name not in STANDARD}


class GroupingHandler(logging.StreamHandler[Any]):
    """Writes to standard error; a fault that comes again and again once a minute.

    The line after a minute is the last one of its kind, and `repeated` says how many there were.
    Outside of a running event loop, where nobody would tell that, everything is written.
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
        """Whether the fault was told already; if so, it is counted."""
        if key in self._again:
            again = self._again[key]
            record.repeated = 1 + (vars(again[0])["repeated"] if again else 0)
            # As text: the error that it is about holds what the request brought.
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
        """Tell the last of those that were counted; if there was none, forget the fault."""
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
        """Tell what has been counted and not told."""
        for again in self._again.values():
            for record in again:
                super().emit(record)
        self._again.clear()
        super().close()


def set_up_logging(level: str, form: LogFormat = "text", **common: object) -> None:
    """Log messages of `level` and above; the libraries' own only when something is wrong.

    Args:
        level: The least severe level.
        form: For people or for programs.
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
    for name in ("alembic", "asyncio", "sqlalchemy"):
        logging.getLogger(name).setLevel(logging.WARNING)
