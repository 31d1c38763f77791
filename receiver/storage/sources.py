"""The table `sources`: which id a label set has."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from typing import Final

from receiver.model import Labels, Source
from receiver.storage.database import Database
from receiver.storage.queries import ADD_SOURCES, FIND_SOURCES

# PostgreSQL text cannot hold NUL. It is written as two characters that no other label text turns
# into, so two label sets never become one.
ESCAPE: Final = str.maketrans({"\0": "␀0", "␀": "␀␀"})


def to_json(labels: Labels) -> str:
    """Labels as JSON text, the same for the same labels."""
    escaped = {name.translate(ESCAPE): value.translate(ESCAPE) for name, value in labels}
    return json.dumps(escaped, ensure_ascii=False, sort_keys=True, separators=(",", ":"))


async def resolve_sources(database: Database, sources: Iterable[Source]) -> None:
    """Give every source its id, adding the ones the database has not seen.

    This commits by itself: a source is useful whatever becomes of the rows that brought it.

    Raises:
        ReceiverError: as `database.translated` does.
    """
    unresolved = [source for source in sources if source.id is None]
    if not unresolved:
        return
    labels = {digest(source.labels): source.labels for source in unresolved}
    async with database.connection() as connection:
        ids = dict(await connection.fetch(FIND_SOURCES, list(labels)))
        if missing := [key for key in labels if key not in ids]:
            texts = [to_json(labels[key]) for key in missing]
            await connection.execute(ADD_SOURCES, missing, texts)
            # A new snapshot: it also shows what another replica has just added.
            ids.update(await connection.fetch(FIND_SOURCES, missing))
    for source in unresolved:
        source.id = ids[digest(source.labels)]


def digest(labels: Labels) -> bytes:
    """What identifies a label set in the database."""
    return hashlib.sha256(to_json(labels).encode()).digest()
