"""Shows descriptions that the receiver itself gave to error codes in the reader's language.

What is stored stays English: storage knows its own text again when a code is renamed.
"""

from __future__ import annotations

import os
import re
from typing import Final

from receiver.web.languages import Language
from receiver.web.texts import say

OURS: Final = re.compile("Seen in (.+) before it was registered")
LOCALE: Final = ("LC_ALL", "LC_MESSAGES", "LANG")
"""Variables that name the language of messages; the first that is set holds (POSIX, 8.2)."""


def is_ours(description: str | None) -> bool:
    """Whether the receiver wrote it."""
    return OURS.fullmatch(description or "") is not None


def describe(description: str | None, language: Language) -> str | None:
    """Give a description in a language if the receiver wrote it; a person's stays as it is."""
    found = OURS.fullmatch(description or "")
    return say(language, "seen_before", metric=found[1]) if found else description


def terminal_language() -> Language:
    """The language of the locale; English if there are no texts in it."""
    name = next((value for key in LOCALE if (value := os.environ.get(key))), "")
    language = re.split("[_.@]", name.lower())[0]
    return Language(language) if language in set(Language) else Language.ENGLISH
