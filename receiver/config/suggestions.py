"""Suggests a known word for a misspelt one."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches


def closest(word: str, known: Iterable[str], likeness: float = 0.6) -> str | None:
    """Return the known word that is most similar to a word, if any is similar enough.

    Args:
        word: The misspelt word.
        known: The known words.
        likeness: The minimum similarity, from 0 to 1 for equal words.
    """
    # A long word is not a misspelling, and comparing it takes long.
    found = get_close_matches(word[:100], list(known), n=1, cutoff=likeness)
    return found[0] if found else None


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """Return the suggestion as a question that ends a sentence; empty if there is none."""
    found = closest(word, known)
    return f" (did you mean {found}?)" if found else ""
