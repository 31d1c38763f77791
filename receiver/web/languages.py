"""Which language a reader is answered in."""

from __future__ import annotations

from enum import StrEnum


class Language(StrEnum):
    """A language that all texts are there in."""

    ENGLISH = "en"
    KOREAN = "ko"


def preferred(accept_language: str) -> Language:
    """The language that `Accept-Language` (RFC 9110, section 12.5.4) likes best; else English."""
    best, best_weight = Language.ENGLISH, 0.0
    for entry in accept_language.split(","):
        tag, _, parameter = entry.partition(";")
        primary = tag.strip().lower().partition("-")[0]
        weight = read_weight(parameter)
        if primary in set(Language) and weight > best_weight:
            best, best_weight = Language(primary), weight
    return best


def read_weight(parameter: str) -> float:
    """The weight that `q=` gives, 1 without it, 0 where it is none."""
    name, _, value = parameter.strip().partition("=")
    if not name:
        return 1.0
    try:
        weight = float(value)
    except ValueError:
        return 0.0
    return weight if 0 <= weight <= 1 else 0.0
