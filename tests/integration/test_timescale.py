"""Late and repeated samples for chunks that TimescaleDB has already compressed."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator

import asyncpg
import pytest

from receiver.rows.model import Source
from receiver.rows.reasons import Fate
from receiver.storage.connection.database import Database
from receiver.storage.editing.codes import CodeTable
from receiver.storage.writing.settling import settle_waiting
from receiver.storage.writing.writer import Options, Writer
from tests.conftest import MakeSettings
from tests.databases import opened_database
from tests.rows import (
    CATALOGUE,
    NOW,
    contents,
    count,
    ocr_alone,
    row,
    source,
    status_alone,
)
from tests.timescale import compress, require_compression

ROWS = 50
"""Number of rows of each source in the chunk, one per second."""
STATUSES = "SELECT app_status, count(*) FROM app_logs GROUP BY 1"
LIMIT = "timescaledb.max_tuples_decompressed_per_dml_transaction"


@pytest.fixture
async def connection(database_url: str) -> AsyncIterator[asyncpg.Connection]:
    # TimescaleDB 2.16 does not replan when a compressed chunk gets its first uncompressed row.
    connection = await asyncpg.connect(database_url, statement_cache_size=0)
    await require_compression(connection)
    yield connection
    await connection.close()


@pytest.fixture
async def database(
    database_url: str, make_settings: MakeSettings, connection: asyncpg.Connection
) -> AsyncIterator[Database]:
    # Any decompression exceeds the limit, except in sessions that raise it.
    name = await connection.fetchval("SELECT current_database()")
    await connection.execute(f"ALTER DATABASE {name} SET {LIMIT} = 1")
    async with opened_database(make_settings(database_url=database_url)) as database:
        yield database


@pytest.fixture
def writer(database: Database) -> Writer:
    return Writer(database, CATALOGUE)


@pytest.fixture
async def sources(writer: Writer, connection: asyncpg.Connection) -> list[Source]:
    """Store rows of four sources in a compressed chunk."""
    sources = [source(str(number)) for number in range(4)]
    times = range(NOW, NOW + ROWS * 1000, 1000)
    await writer.write(contents(*(row(who, time) for who in sources for time in times)))
    await compress(connection)
    return sources


async def statuses(connection: asyncpg.Connection) -> dict[int, int]:
    return {row["app_status"]: row["count"] for row in await connection.fetch(STATUSES)}


async def test_a_repeated_batch_adds_just_what_is_new(
    writer: Writer, connection: asyncpg.Connection, sources: list[Source]
) -> None:
    """New rows lie between the compressed rows, before and after them, in any order."""
    times = range(NOW - 5000, NOW + (ROWS + 5) * 1000, 500)
    batch = contents(*(row(who, time) for time in times for who in sources))
    for _ in range(3):
        await writer.write(batch)
        assert await count(connection, "app_logs") == len(sources) * len(times)
        keys = "(SELECT DISTINCT source_id, created_at FROM app_logs) AS keys"
        assert await count(connection, keys) == len(sources) * len(times)
        await compress(connection)
    assert await count(connection, "rejected_samples") == 0


async def test_a_contradiction_of_a_compressed_row_is_set_aside(
    writer: Writer, connection: asyncpg.Connection, sources: list[Source]
) -> None:
    who = sources[0]
    await writer.write(
        contents(row(who, status=1), row(who, NOW + 1, status=2), status_alone(who, NOW + 1000, 1))
    )
    aside = await connection.fetch(
        "SELECT metric, timestamp_ms, value, reason FROM rejected_samples ORDER BY 2"
    )
    assert [tuple(sample) for sample in aside] == [
        ("app_status", NOW, 1.0, "conflict"),
        ("app_status", NOW + 1000, 1.0, "conflict"),
    ]
    assert await statuses(connection) == {0: len(sources) * ROWS, 2: 1}


async def test_halves_find_their_row_in_a_compressed_chunk(
    writer: Writer,
    database: Database,
    connection: asyncpg.Connection,
    sources: list[Source],
    make_settings: MakeSettings,
) -> None:
    who, other = sources[:2]
    await writer.write(contents(status_alone(who), ocr_alone(other)))
    assert await count(connection, "pending_rows") == 0
    # As written by a transaction that did not see the row's transaction.
    await connection.execute(
        "INSERT INTO pending_rows (table_name, created_at, source_id, samples) "
        "SELECT 'app_logs', created_at, source_id, '{\"app_status\": \"0.0\"}' "
        "FROM app_logs LIMIT 10"
    )
    fates = await settle_waiting(database, CATALOGUE, make_settings().pair_timeout)
    assert fates == {("app_logs", Fate.DUPLICATE): 10}


async def test_late_halves_meet_in_a_compressed_chunk(
    writer: Writer, connection: asyncpg.Connection, sources: list[Source]
) -> None:
    late = [(who, NOW + number * 1000 + 1) for who in sources for number in range(5)]
    await writer.write(contents(*(status_alone(*key) for key in late)))
    await writer.write(contents(*(ocr_alone(*key) for key in late), row(sources[0])))
    assert await count(connection, "app_logs") == len(sources) * ROWS + len(late)
    assert await count(connection, "pending_rows") == 0


async def test_a_unique_index_of_the_users_may_have_batches_decompressed(
    writer: Writer, connection: asyncpg.Connection, sources: list[Source]
) -> None:
    """More than the database's limit allows, or the request would be refused forever."""
    await connection.execute("SELECT decompress_chunk(chunk) FROM show_chunks('app_logs') chunk")
    try:
        await connection.execute("CREATE UNIQUE INDEX ON app_logs (id, created_at)")
    except asyncpg.FeatureNotSupportedError as error:
        pytest.skip(str(error))
    await compress(connection)
    times = range(NOW, NOW + ROWS * 1000, 500)
    await writer.write(contents(*(row(who, time) for who in sources for time in times)))
    assert await count(connection, "app_logs") == len(sources) * len(times)


async def test_renaming_a_code_leaves_compressed_rows_alone(
    connection: asyncpg.Connection, sources: list[Source]
) -> None:
    await CodeTable().rename(connection, 0, "FINE", None)
    await connection.execute("UPDATE error_codes SET name = 'GOOD' WHERE code = 0")
    assert await statuses(connection) == {0: len(sources) * ROWS}
    compressed = (
        "SELECT bool_and(is_compressed) FROM timescaledb_information.chunks "
        "WHERE hypertable_name = 'app_logs'"
    )
    assert await connection.fetchval(compressed)


async def test_renumbering_a_code_reaches_compressed_rows(
    writer: Writer, connection: asyncpg.Connection, sources: list[Source]
) -> None:
    """Rows that came late into the chunk and rows of other chunks too."""
    day = 86_400_000
    await writer.write(contents(row(sources[0], NOW + 1), row(sources[0], NOW + day)))
    await connection.execute("UPDATE error_codes SET code = 70 WHERE code = 0")
    assert await statuses(connection) == {70: len(sources) * ROWS + 2}
    await writer.write(contents(row(sources[0], NOW + 2, status=7), row(sources[0], NOW + day)))
    assert await statuses(connection) == {70: len(sources) * ROWS + 2, 7: 1}


async def test_renumbering_more_than_timescaledb_decompresses_changes_nothing(
    connection: asyncpg.Connection, sources: list[Source]
) -> None:
    """As docs/promises.md says: an error that names the setting, and with it, it works."""
    renumber = "UPDATE error_codes SET code = 70 WHERE code = 0"
    await connection.execute(f"SET {LIMIT} = 1")
    with pytest.raises(asyncpg.PostgresError, match="decompression limit"):
        await connection.execute(renumber)
    assert await statuses(connection) == {0: len(sources) * ROWS}
    await connection.execute(f"SET {LIMIT} = 0")
    await connection.execute(renumber)
    assert await statuses(connection) == {70: len(sources) * ROWS}


async def test_a_code_of_compressed_rows_cannot_be_deleted(
    connection: asyncpg.Connection, sources: list[Source]
) -> None:
    assert sources
    with pytest.raises(asyncpg.ForeignKeyViolationError):
        await connection.execute("DELETE FROM error_codes WHERE code = 0")


async def test_new_chunks_beyond_the_limit_are_rejected(
    database: Database, connection: asyncpg.Connection
) -> None:
    writer = Writer(database, CATALOGUE, options=Options(new_chunks=5))
    who, day = source(), 86_400_000
    today = int(time.time() * 1000)
    for _ in range(2):
        await writer.write(
            contents(*(row(who, NOW + number * day) for number in range(8)), row(who, today))
        )
    assert await count(connection, "app_logs") == 6
    reasons = await connection.fetch("SELECT reason FROM rejected_samples")
    assert [reason for (reason,) in reasons] == ["too_many_new_chunks"] * 6
