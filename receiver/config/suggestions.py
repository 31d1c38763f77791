"""Guesses what was meant by a word that is none of those there are."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches


def closest(word: str, known: Iterable[str], likeness: float = 0.6) -> str | None:
    """The known word that is most like another one, if any is like it at all.

    Args:
        word: What was written.
        known: What could have been meant.
        likeness: How much alike they must be, from 0 to 1 for the same.
    """
    # What is long is no slip of the pen, and to compare it takes long.
    found = get_close_matches(word[:100], list(known), n=1, cutoff=likeness)
    return found[0] if found else None


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """Ask it, as the end of a sentence; empty if no known word is like this one."""
    found = closest(word, known)
    return f" (did you mean {found}?)" if found else ""
