"""Assigns ids to label sets, in the table `sources`."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping
from typing import Final

from receiver.rows.model import Source
from receiver.rows.reasons import Reason
from receiver.storage.connection.connecting import is_distributed
from receiver.storage.connection.database import Database
from receiver.storage.schema.citus import FILL_KEYS
from receiver.storage.writing.checks import Entries
from receiver.storage.writing.distributed import ADD_KEYS, LACKS_KEYS
from receiver.storage.writing.labels import digest_of, to_json
from receiver.storage.writing.records import LABELS_AT_ONCE, Refusal, pieces
from receiver.storage.writing.registry import Allowance, Registry, Statements, beyond

STATEMENTS: Final = Statements(
    Entries(
        "sources",
        ("digest", "labels"),
        ("bytea", "jsonb"),
        """(
    SELECT decode(entry ->> 0, 'hex'), (entry ->> 1)::jsonb, place
    FROM unnest($1::jsonb[]) WITH ORDINALITY AS given (entry, place)
) AS sources (digest, labels, place_of_entry)""",
    ),
    find="SELECT digest, id FROM sources WHERE digest = ANY($1::bytea[])",
    # Waits for another transaction that is adding a label set, and then skips it.
    add="""
INSERT INTO sources (digest, labels)
SELECT digest, labels::jsonb FROM unnest($1::bytea[], $2::text[]) AS source (digest, labels)
ORDER BY digest
ON CONFLICT DO NOTHING RETURNING true
""",
    add_each="""
INSERT INTO sources (digest, labels)
SELECT decode(entry ->> 0, 'hex'), (entry ->> 1)::jsonb FROM unnest($1) AS entry
ORDER BY 1
""",
)


class Sources:
    """Gives sources their ids.

    Args:
        database: Where the table is.
        limit: How many may be added in an hour; None: any number.
    """

    def __init__(self, database: Database, limit: int | None = None) -> None:
        self._database = database
        self._registry: Registry[bytes] = Registry(
            database,
            STATEMENTS,
            Allowance(limit),
            beyond(Reason.TOO_MANY_SOURCES, limit, "RECEIVER_MAX_NEW_SOURCES"),
        )

    async def resolve(
        self, sources: Iterable[Source], *, outdated: bool = False
    ) -> Mapping[Source, Refusal]:
        """Give every source its id, adding those that the table does not have.

        Args:
            sources: The sources.
            outdated: Whether to look up those that have an id, too. They keep it meanwhile: other
                batches may be writing their rows.

        Returns:
            The sources that have none, and why.

        Raises:
            ReceiverError: as `database.translated` does.
        """
        refused: dict[Source, Refusal] = {}
        unresolved = [source for source in sources if outdated or source.id is None]
        for piece in pieces(unresolved, size_of):
            refused |= await self._resolve(piece)
        return refused

    async def _resolve(self, sources: list[Source]) -> dict[Source, Refusal]:
        columns = await encode(sources)
        ids, refused = await self._registry.resolve({row[0]: row for row in columns.values()})
        if ids:
            await self._keep_keys(list(ids.values()))
        for source, (key, _) in columns.items():
            source.id = ids.get(key)
        return {source: refused[key] for source, (key, _) in columns.items() if key in refused}

    async def _keep_keys(self, ids: list[int]) -> None:
        async with self._database.connection() as connection:
            if await is_distributed(connection):
                await connection.execute(ADD_KEYS, ids)


async def encode(sources: Iterable[Source]) -> dict[Source, tuple[bytes, str]]:
    """Return the digest and the JSON text of label sets, in turns with other tasks."""
    columns: dict[Source, tuple[bytes, str]] = {}
    encoded = 0
    for source in sources:
        text = to_json(source.labels)
        columns[source] = digest_of(text), text
        encoded += len(source.labels)
        if encoded > LABELS_AT_ONCE:
            encoded = 0
            await asyncio.sleep(0)
    return columns


async def keep_all_keys(database: Database) -> None:
    """Add the keys of sources that somebody else has added, where Citus distributes the tables.

    Raises:
        ReceiverError: as `database.translated` does.
    """
    async with database.connection() as connection:
        if await is_distributed(connection) and await connection.fetchval(LACKS_KEYS):
            await connection.execute(FILL_KEYS)


def size_of(source: Source) -> int:
    """Return how many characters the labels of a source have."""
    return sum(len(name) + len(value) for name, value in source.labels)
