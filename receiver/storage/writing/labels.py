"""Label sets as the database stores them."""

from __future__ import annotations

import hashlib
import json
import re
from typing import Any, Final

from receiver.rows.model import Labels

MAX_CUT: Final = 1024
"""Maximum number of characters of a label set in JSON after it is cut."""
MAX_TEXT: Final = 64
"""Maximum number of characters of a name or a value in a cut label set."""

# PostgreSQL text cannot hold NUL. It is escaped as two characters that no other label text turns
# into, so different label sets stay different.
ESCAPE: Final = str.maketrans({"\0": "␀0", "␀": "␀␀"})
ESCAPED: Final = re.compile("␀([0␀])")


def to_json(labels: Labels) -> str:
    """Write labels as JSON text, the same for the same labels."""
    escaped = {name.translate(ESCAPE): value.translate(ESCAPE) for name, value in labels}
    return json.dumps(escaped, ensure_ascii=False, sort_keys=True, separators=(",", ":"))


def from_json(text: str) -> Labels:
    """Read labels as the database stores them; a value inserted by hand may be any JSON."""
    content: Any = json.loads(text)
    if not isinstance(content, dict):
        return ()
    return tuple(
        sorted(
            (unescape(name), unescape(value if isinstance(value, str) else json.dumps(value)))
            for name, value in content.items()
            if value is not None
        )
    )


def unescape(text: str) -> str:
    """Return a name or a value as it was before escaping."""
    return ESCAPED.sub(lambda found: "\0" if found[1] == "0" else "␀", text)


def cut(labels: Labels) -> Labels:
    """Return a label set of bounded size: itself or, if it is large, its beginning.

    Long names and values are cut, and labels that do not fit are left out.
    """
    if len(to_json(labels)) <= MAX_CUT:
        return labels
    kept: list[tuple[str, str]] = []
    size = len("}")
    for name, value in labels:
        label = shorten(name), shorten(value)
        # Each label comes with the brace or the comma before it.
        size += len(to_json((label,))) - len("}")
        if size > MAX_CUT:
            break
        kept.append(label)
    return tuple(kept)


def shorten(text: str) -> str:
    """Return the beginning of a text, with a mark where it is cut."""
    return text if len(text) <= MAX_TEXT else f"{text[:MAX_TEXT]}…"


def digest(labels: Labels) -> bytes:
    """Return what identifies a label set in the database: the SHA-256 of its JSON text."""
    return digest_of(to_json(labels))


def digest_of(text: str) -> bytes:
    """Return the digest of a label set that is written as JSON."""
    return hashlib.sha256(text.encode()).digest()
