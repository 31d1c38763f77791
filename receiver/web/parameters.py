"""Reads and checks the parameters of pages and forms."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from datetime import UTC, date, datetime, time, timedelta
from typing import Final, NamedTuple
from zoneinfo import ZoneInfo

from receiver.errors import BadRequestError, ReceiverError
from receiver.storage.reading import logs

MIN_INT32: Final = -(2**31)
END_INT32: Final = 2**31
RANGES: Final = {
    "1h": timedelta(hours=1),
    "6h": timedelta(hours=6),
    "24h": timedelta(hours=24),
    "7d": timedelta(days=7),
    "30d": timedelta(days=30),
    "90d": timedelta(days=90),
}
CUSTOM: Final = "custom"
"""The range from `since` to `until`."""
LONGEST: Final = timedelta(days=92)
SHORTEST: Final = timedelta(minutes=1)
LOG_RANGES: Final = {"15m": timedelta(minutes=15), **RANGES, "all": None}
MOMENT: Final = re.compile(
    r"infinity|[0-9]{4,6}(-[0-9]{2}){2} [0-9]{2}(:[0-9]{2}){2}(\.[0-9]{1,6})?\+00( BC)?"
)
EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
DAY: Final = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}")
CLOCK: Final = re.compile(r"([01][0-9]|2[0-3]):[0-5][0-9]")
MAX_TEXT: Final = 500

Values = Mapping[str, str]
"""A query or a form: one value per name; an empty value counts as none."""


class PageError(ReceiverError):
    """A page cannot be shown, or a form cannot be accepted.

    Args:
        key: The text in `web.texts` that tells the reader why.
        values: The values for the braces of that text.
    """

    def __init__(self, key: str, **values: object) -> None:
        super().__init__(f"{key}: {values}")
        self.key = key
        self.values = values


class BadParameterError(PageError, BadRequestError):
    """A parameter of the page has a wrong value."""


class Window(NamedTuple):
    """A requested range of time."""

    name: str
    """The length: a key of the offered ranges."""
    until: datetime | None
    """The end; None: now."""
    since: datetime | None = None
    """The start of a range of another length."""

    def ends(self, now: datetime) -> tuple[datetime, datetime]:
        """Return the start and the end of a range for a timeline."""
        until = self.until or now
        return self.since or until - RANGES[self.name], until

    def choices(self, ranges: Iterable[str]) -> list[str]:
        """Return the names to choose from: those offered, and the name of this range."""
        return list(dict.fromkeys((*ranges, self.name)))


def read_window(values: Values, ranges: Mapping[str, object], zone: ZoneInfo) -> Window:
    """Read the parameters `range`, by default 24h, and `until`, and `since` for any other length.

    Raises:
        BadParameterError: one of them is wrong.
    """
    until = read_time(values, "until", zone)
    if values.get("range") != CUSTOM:
        return Window(read_choice(values, "range", ranges, "24h"), until)
    since = read_time(values, "since", zone)
    longest = timedelta.max if "all" in ranges else LONGEST
    if since is None or until is None or not SHORTEST <= until - since <= longest:
        raise BadParameterError("bad_range")
    return Window(CUSTOM, until, since)


def read_choice(values: Values, name: str, choices: Mapping[str, object], default: str) -> str:
    """Read one of several words.

    Raises:
        BadParameterError: it is none of them.
    """
    chosen = values.get(name) or default
    if chosen not in choices:
        raise BadParameterError("bad_choice", name=name, choices=", ".join(choices))
    return chosen


def read_number(
    values: Values, name: str, lowest: int = MIN_INT32, highest: int = END_INT32 - 1
) -> int | None:
    """Read a whole number; None if it is missing.

    Raises:
        BadParameterError: it is malformed, or outside of the limits.
    """
    text = values.get(name, "").strip()
    if not text:
        return None
    if re.fullmatch(r"-?[0-9]{1,19}", text) and lowest <= int(text) <= highest:
        return int(text)
    raise BadParameterError("bad_number", name=name, lowest=lowest, highest=highest)


def read_time(values: Values, name: str, zone: ZoneInfo) -> datetime | None:
    """Read a time in ISO 8601, by default in the reader's zone; None if it is missing.

    Raises:
        BadParameterError: it is malformed, before 1970-04-11, or after 9998.
    """
    text = values.get(name, "").strip()
    if not text:
        return None
    try:
        moment = datetime.fromisoformat(text)
        moment = (moment.replace(tzinfo=zone) if moment.tzinfo is None else moment).astimezone(UTC)
    except (ValueError, OverflowError):
        moment = EPOCH
    # The longest range must fit before and after it.
    if not EPOCH + timedelta(days=100) <= moment <= datetime(9999, 1, 1, tzinfo=UTC):
        raise BadParameterError("bad_time", name=name, zone=zone)
    return moment


def read_day(values: Values, name: str) -> date | None:
    """Read a day such as 2026-11-25; None if it is missing.

    Raises:
        BadParameterError: it is malformed, before 1971 or after 9998.
    """
    text = values.get(name, "").strip()
    if not text:
        return None
    try:
        day = date.fromisoformat(text) if DAY.fullmatch(text) else EPOCH.date()
    except ValueError:
        day = EPOCH.date()
    if not EPOCH.year < day.year < 9999:
        raise BadParameterError("bad_day", name=name)
    return day


def read_clock(values: Values, name: str) -> time:
    """Read a time of the day such as 07:00.

    Raises:
        BadParameterError: it is malformed or missing.
    """
    text = values.get(name, "").strip()
    if not CLOCK.fullmatch(text):
        raise BadParameterError("bad_clock", name=name)
    return time.fromisoformat(text)


def read_place(values: Values, name: str) -> logs.Place:
    """Read the row after which a page of logs begins; without it, the page begins with the newest.

    Raises:
        BadParameterError: it is malformed.
    """
    text = values.get(name)
    if not text:
        return logs.NEWEST
    moment, _, source = text.rpartition("_")
    if not (MOMENT.fullmatch(moment) and re.fullmatch(r"[0-9]{1,10}", source)):
        raise BadParameterError("bad_place", name=name)
    return logs.Place(moment, min(int(source), END_INT32 - 1))


def read_text(values: Values, name: str, *, needed: bool) -> str:
    """Read one line of printable text.

    Raises:
        BadParameterError: it is malformed, too long, or missing although needed.
    """
    text = values.get(name, "").strip()
    if (needed and not text) or not text.isprintable() or len(text) > MAX_TEXT:
        raise BadParameterError("bad_name" if needed else "bad_text", name=name, most=MAX_TEXT)
    return text
