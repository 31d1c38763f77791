"""Translates the receiver's own descriptions of error codes into the reader's language.

The stored text is English: storage recognizes its own text by it when a code is renamed.
"""

from __future__ import annotations

import os
import re
from typing import Final

from receiver.web.languages import Language
from receiver.web.texts import say

OURS: Final = re.compile("Seen in (.+) before it was registered")
LOCALE: Final = ("LC_ALL", "LC_MESSAGES", "LANG")
"""Variables that name the language of messages; the first one that is set counts (POSIX, 8.2)."""


def is_ours(description: str | None) -> bool:
    """Return whether the receiver wrote a description."""
    return OURS.fullmatch(description or "") is not None


def describe(description: str | None, language: Language) -> str | None:
    """Return a description, translated if the receiver wrote it."""
    found = OURS.fullmatch(description or "")
    return say(language, "seen_before", metric=found[1]) if found else description


def terminal_language() -> Language:
    """Return the language of the locale; English if it has no texts."""
    name = next((value for key in LOCALE if (value := os.environ.get(key))), "")
    language = re.split("[_.@]", name.lower())[0]
    return Language(language) if language in set(Language) else Language.ENGLISH
