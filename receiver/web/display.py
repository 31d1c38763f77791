"""Formats times, durations, labels and numbers."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Final
from zoneinfo import ZoneInfo

from markupsafe import Markup

from receiver.storage.reading.arrivals import MOST
from receiver.web.languages import Language
from receiver.web.texts import say
from receiver.web.zones import DEFAULT

POSTGRES_TIME: Final = re.compile(r"(\d{4})-(\d\d-\d\d) (\d\d:\d\d:\d\d)(\.\d+)?\+00")
UNITS: Final = ((86_400, "d"), (3_600, "h"), (60, "min"), (1, "s"))


def moment(text: str, zone: ZoneInfo = DEFAULT, *, exact: bool = True) -> Markup:
    """Return a time of PostgreSQL as HTML, in a zone.

    Times that `datetime` cannot hold are shown unchanged.

    Args:
        text: The time, in UTC.
        zone: The zone.
        exact: Whether milliseconds are shown.
    """
    found = POSTGRES_TIME.fullmatch(text)
    if found is None:
        return Markup("<span>{}</span>").format(text)
    year, day, time, fraction = found.groups("")
    machine = f"{year}-{day}T{time}{fraction}Z"
    try:
        local = datetime.fromisoformat(machine).astimezone(zone)
    except (OverflowError, ValueError):
        return Markup("<span>{}</span>").format(text)
    shown = local.isoformat(" ", "milliseconds" if exact else "seconds")[: 23 if exact else 19]
    return Markup('<time datetime="{0}" title="{0}">{1}</time>').format(machine, shown)


def postgres_text(time: datetime) -> str:
    """Return a time in the format of PostgreSQL."""
    return time.astimezone(UTC).isoformat(" ").removesuffix(":00")


def iso(time: datetime) -> str:
    """Return a time in the format of query parameters."""
    return time.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def milliseconds(since_epoch: int, zone: ZoneInfo = DEFAULT) -> Markup | str:
    """Return a sample's timestamp, as a time if `datetime` can hold it."""
    try:
        time = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(milliseconds=since_epoch)
    except OverflowError:
        return f"{since_epoch} ms"
    return moment(postgres_text(time), zone)


def age(seconds: float, language: Language) -> str:
    """Return an age in its largest unit."""
    size = abs(seconds)
    length, unit = next(((n, u) for n, u in UNITS if size >= n), UNITS[-1])
    text = say(language, unit, number=f"{size / length:,.0f}")
    return say(language, "ahead" if seconds <= -1 else "ago", age=text)


def duration(seconds: float, language: Language, *, brief: bool = False) -> str:
    """Return a length of time in its two largest units, such as 12 min 41 s.

    Args:
        seconds: The length.
        language: The reader's language.
        brief: Whether a second unit is left out if it is 0.
    """
    left = max(0, int(seconds))
    parts: list[str] = []
    for length, unit in UNITS:
        number, left = divmod(left, length)
        if number or parts or unit == "s":
            parts.append(say(language, unit, number=f"{number:,}"))
        if len(parts) == 2 or (brief and parts and not left):
            break
    return " ".join(parts)


def clock(seconds: float) -> str:
    """Return a length of time as on a stopwatch: 12:41, 4:19:08; from 100 hours on, in days."""
    minutes, second = divmod(max(0, int(seconds)), 60)
    hours, minute = divmod(minutes, 60)
    if hours >= 100:
        days, hour = divmod(hours, 24)
        return f"{days}d {hour:02}:{minute:02}"
    return f"{hours}:{minute:02}:{second:02}" if hours else f"{minute:02}:{second:02}"


def count(number: int, language: Language) -> str:
    """Return a number that was counted only up to `MOST`, as text."""
    text = f"{number:,}"
    return say(language, "more_than", number=text) if number >= MOST else text


def percent(share: float) -> str:
    """Return a share in per cent, rounded to 100 % or 0 % only if it is exactly that."""
    number = 100 * share
    if 99.9 <= number < 100:
        return "99.9%" if number < 99.95 else ">99.9%"
    if 0 < number < 0.1:
        return "<0.1%"
    return f"{number:.1f}%"


def label_text(labels: Mapping[str, str]) -> str:
    """Return a label set in one line, `instance` first."""
    names = sorted(labels, key=lambda name: (name != "instance", name))
    return " ".join(f"{name}={labels[name]}" for name in names)
