"""Label sets as the database holds them."""

from __future__ import annotations

import hashlib
import json
from typing import Final

from receiver.model import Labels

# PostgreSQL text cannot hold NUL. It is written as two characters that no other label text turns
# into, so two label sets never become one.
ESCAPE: Final = str.maketrans({"\0": "␀0", "␀": "␀␀"})


def to_json(labels: Labels) -> str:
    """Write labels as JSON text, the same for the same labels."""
    escaped = {name.translate(ESCAPE): value.translate(ESCAPE) for name, value in labels}
    return json.dumps(escaped, ensure_ascii=False, sort_keys=True, separators=(",", ":"))


def digest(labels: Labels) -> bytes:
    """Return what identifies a label set in the database: the SHA-256 of its JSON text."""
    return hashlib.sha256(to_json(labels).encode()).digest()
