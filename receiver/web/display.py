"""Formats times, ages, labels and numbers."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Final

from markupsafe import Markup

from receiver.storage.reading.arrivals import MOST
from receiver.web.languages import Language
from receiver.web.texts import say

POSTGRES_TIME: Final = re.compile(r"(\d{4})-(\d\d-\d\d) (\d\d:\d\d:\d\d)(\.\d+)?\+00")
LONGEST: Final = 160
"""Maximum number of characters of a label set."""
UNITS: Final = ((86_400, "d"), (3_600, "h"), (60, "min"), (1, "s"))


def moment(text: str) -> Markup:
    """Return a time of PostgreSQL as HTML, which the browser shows in its own zone.

    Times after the year 9999 or before the year 1 are shown unchanged.
    """
    found = POSTGRES_TIME.fullmatch(text)
    if found is None:
        return Markup("<span>{}</span>").format(text)
    year, day, time, fraction = found.groups("")
    exact = f"{year}-{day}T{time}{fraction}Z"
    shown = f"{year}-{day} {time}.{(fraction[1:] + '000')[:3]}"
    return Markup('<time datetime="{0}" title="{0}">{1}</time>').format(exact, shown)


def postgres_text(time: datetime) -> str:
    """Return a time in the format of PostgreSQL."""
    return time.astimezone(UTC).isoformat(" ").removesuffix(":00")


def milliseconds(since_epoch: int) -> Markup | str:
    """Return a sample's timestamp, as a time if `datetime` can hold it."""
    try:
        time = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(milliseconds=since_epoch)
    except OverflowError:
        return f"{since_epoch} ms"
    return moment(postgres_text(time))


def age(seconds: float, language: Language) -> str:
    """Return an age in its largest unit."""
    size = abs(seconds)
    length, unit = next(((n, u) for n, u in UNITS if size >= n), UNITS[-1])
    text = say(language, unit, number=f"{size / length:,.0f}")
    return say(language, "ahead" if seconds <= -1 else "ago", age=text)


def count(number: int, language: Language) -> str:
    """Return a number that was counted up to `MOST` only."""
    text = f"{number:,}"
    return say(language, "more_than", number=text) if number >= MOST else text


def label_text(labels: Mapping[str, str]) -> str:
    """Return a label set in one line, `instance` first."""
    names = sorted(labels, key=lambda name: (name != "instance", name))
    text = " ".join(f"{name}={labels[name]}" for name in names)
    return text if len(text) <= LONGEST else f"{text[:LONGEST]}…"
