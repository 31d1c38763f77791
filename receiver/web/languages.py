"""Chooses the reader's language."""

from __future__ import annotations

from enum import StrEnum


class Language(StrEnum):
    """A language of the page."""

    ENGLISH = "en"
    KOREAN = "ko"


def preferred(accept_language: str) -> Language:
    """Return the preferred language by `Accept-Language` (RFC 9110, section 12.5.4)."""
    best, best_weight = Language.ENGLISH, 0.0
    for entry in accept_language.split(","):
        tag, _, parameter = entry.partition(";")
        primary = tag.strip().lower().partition("-")[0]
        weight = read_weight(parameter)
        if primary in set(Language) and weight > best_weight:
            best, best_weight = Language(primary), weight
    return best


def read_weight(parameter: str) -> float:
    """Return the weight in `q=`: 1 without it, 0 if malformed."""
    name, _, value = parameter.strip().partition("=")
    if not name:
        return 1.0
    try:
        weight = float(value)
    except ValueError:
        return 0.0
    return weight if 0 <= weight <= 1 else 0.0
