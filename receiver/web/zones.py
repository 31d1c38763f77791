"""The reader's time zone: the browser names it in a cookie, and forms name theirs."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import Final
from zoneinfo import ZoneInfo

COOKIE: Final = "receiver_zone"
NAME: Final = re.compile(r"[A-Za-z0-9_+-]{1,32}(/[A-Za-z0-9_+-]{1,32}){0,2}")
DEFAULT: Final = ZoneInfo("UTC")


def read_zone(name: str) -> ZoneInfo | None:
    """Return a zone by its name in the tz database; None if there is none."""
    if not NAME.fullmatch(name):
        return None
    try:
        return ZoneInfo(name)
    # The name may also be that of a directory of zones, or of a file that is not a zone.
    except (KeyError, OSError, ValueError):
        return None


def midnight(now: datetime, zone: ZoneInfo) -> datetime:
    """Return when today began in a zone."""
    return now.astimezone(zone).replace(hour=0, minute=0, second=0, microsecond=0).astimezone(UTC)
