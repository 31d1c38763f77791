"""How log messages look: to standard error, one line each."""

from __future__ import annotations

import logging

from aiohttp.http_exceptions import HttpProcessingError


class IgnoreMalformedRequests(logging.Filter):
    """Drops what aiohttp logs with a traceback about requests that are not HTTP."""

    def filter(self, record: logging.LogRecord) -> bool:
        """Whether to keep the record."""
        kind = record.exc_info[0] if record.exc_info else None
        return kind is None or not issubclass(kind, HttpProcessingError)


def set_up_logging(level: str) -> None:
    """Log messages of `level` and above; the libraries' own only when something is wrong."""
    logging.basicConfig(
        level=level.upper(), format="%(asctime)s %(levelname)-7s %(message)s", force=True
    )
    logging.getLogger("aiohttp.server").addFilter(IgnoreMalformedRequests())
    for name in ("alembic", "asyncio", "sqlalchemy"):
        logging.getLogger(name).setLevel(logging.WARNING)
