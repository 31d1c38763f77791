"""How times, ages, labels and numbers are written."""

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
"""Characters of a label set that are shown."""
UNITS: Final = ((86_400, "d"), (3_600, "h"), (60, "min"), (1, "s"))


def moment(text: str) -> Markup:
    """A time as PostgreSQL writes it, for the browser to show in its own zone.

    What lies beyond the year 9999 or before the year 1 is shown as it is.
    """
    found = POSTGRES_TIME.fullmatch(text)
    if found is None:
        return Markup("<span>{}</span>").format(text)
    year, day, time, fraction = found.groups("")
    exact = f"{year}-{day}T{time}{fraction}Z"
    shown = f"{year}-{day} {time}.{(fraction[1:] + '000')[:3]}"
    return Markup('<time datetime="{0}" title="{0}">{1}</time>').format(exact, shown)


def postgres_text(time: datetime) -> str:
    """A time as PostgreSQL writes it."""
    return time.astimezone(UTC).isoformat(" ").removesuffix(":00")


def milliseconds(since_epoch: int) -> Markup | str:
    """A sample's timestamp, as a time if it is one of these centuries."""
    try:
        time = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(milliseconds=since_epoch)
    except OverflowError:
        return f"{since_epoch} ms"
    return moment(postgres_text(time))


def age(seconds: float, language: Language) -> str:
    """How long ago something was, in its largest unit."""
    size = abs(seconds)
    length, unit = next(((n, u) for n, u in UNITS if size >= n), UNITS[-1])
    text = say(language, unit, number=f"{size / length:,.0f}")
    return say(language, "ahead" if seconds <= -1 else "ago", age=text)


def count(number: int, language: Language) -> str:
    """A number that was counted no further than `MOST`."""
    text = f"{number:,}"
    return say(language, "more_than", number=text) if number >= MOST else text


def label_text(labels: Mapping[str, str]) -> str:
    """A label set in one line, `instance` first."""
    names = sorted(labels, key=lambda name: (name != "instance", name))
    text = " ".join(f"{name}={labels[name]}" for name in names)
    return text if len(text) <= LONGEST else f"{text[:LONGEST]}…"
