"""The foreign keys of a batch are checked in one query, for any table."""

from __future__ import annotations

import json
from typing import Any

import asyncpg
import pytest

from receiver.storage.schema.revisions import migrate
from tests.cluster import keep_keys
from tests.conftest import MakeSettings
from tests.declaring import declare
from tests.not_on_citus import IS_CHOSEN
from tests.timescale import FIND_VERSION

TABLE = "Press Line"
COLUMNS: dict[str, dict[str, Any]] = {
    "state": {"metric": "state", "type": "code", "codes": "B states"},
    "alarm": {"metric": "alarm", "type": "code", "codes": 'a"larms'},
    "mode": {"metric": "mode", "type": "code", "codes": "B states", "required": False},
}
CHECK = "SELECT receiver_check_references($1, $2, $3)"
OBSTACLE = "SELECT receiver_references_obstacle($1, $2)"
ROLE = "SELECT current_setting('session_replication_role')"


def codes(**keys: list[int]) -> str:
    return json.dumps(
        {name: {"table": COLUMNS[name]["codes"], "keys": keys.get(name, [])} for name in COLUMNS}
    )


@pytest.fixture
async def connection(
    database_url: str, make_settings: MakeSettings, connection: asyncpg.Connection
) -> asyncpg.Connection:
    if await connection.fetchval(FIND_VERSION):
        pytest.skip("a hypertable's references are checked row by row")
    await migrate(declare(make_settings, database_url, **{TABLE: {"columns": COLUMNS}}))
    await connection.execute(
        """
        INSERT INTO sources (labels, digest) VALUES ('{}', 'a');
        INSERT INTO "B states" VALUES (1, 'a'), (2, 'b'), (3, 'c');
        INSERT INTO "a""larms" VALUES (1, 'a')
        """
    )
    await keep_keys(connection)
    return connection


async def delete(session: asyncpg.Connection, what: str) -> None:
    """Delete rows without waiting for locks, on the nodes of a cluster as well."""
    async with session.transaction():
        # One statement each, as Citus propagates the whole text that contains a SET.
        await session.execute("SET LOCAL citus.propagate_set_commands = 'local'")
        await session.execute("SET LOCAL lock_timeout = '100ms'")
        await session.execute(f"DELETE FROM {what}")


async def test_codes_of_several_tables_are_checked_and_kept(
    connection: asyncpg.Connection, database_url: str
) -> None:
    assert await connection.fetchval(OBSTACLE, TABLE, codes()) is None
    other = await asyncpg.connect(database_url)
    async with connection.transaction():
        await connection.execute(CHECK, TABLE, codes(state=[1], mode=[2, 1], alarm=[1]), [1])
        assert IS_CHOSEN or await connection.fetchval(ROLE) == "replica"
        for kept in (
            '"B states" WHERE code = 1',
            '"B states" WHERE code = 2',
            '"a""larms"',
            "sources",
        ):
            with pytest.raises(asyncpg.LockNotAvailableError):
                await delete(other, kept)
        await delete(other, '"B states" WHERE code = 3')
    assert await connection.fetchval(ROLE) == "origin"
    await other.close()


@pytest.mark.parametrize(
    ("keys", "sources", "missing"),
    [
        ({"state": [1, 9]}, [1], 'a code of "B states" is gone'),
        ({"mode": [9]}, [1], 'a code of "B states" is gone'),
        ({"alarm": [2]}, [1], 'a code of "a""larms" is gone'),
        ({"state": [1]}, [1, 2], "a source is gone"),
    ],
)
async def test_what_is_gone_is_named(
    connection: asyncpg.Connection, keys: dict[str, list[int]], sources: list[int], missing: str
) -> None:
    with pytest.raises(asyncpg.ForeignKeyViolationError, match=missing):
        await connection.execute(CHECK, TABLE, codes(**keys), sources)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ('ALTER TABLE "Press Line" DROP CONSTRAINT "Press Line_alarm_fkey"', "foreign keys"),
        (
            'ALTER TABLE "Press Line" ADD FOREIGN KEY (mode) REFERENCES error_codes (code)',
            "foreign keys",
        ),
        ('CREATE TABLE part () INHERITS ("Press Line")', "partitions or chunks"),
        ('ALTER TABLE "Press Line" ADD UNIQUE (id) DEFERRABLE', "triggers"),
    ],
)
async def test_what_stands_in_the_way_is_named(
    connection: asyncpg.Connection, change: str, said: str
) -> None:
    await connection.execute(change)
    obstacle = await connection.fetchval(OBSTACLE, TABLE, codes())
    assert obstacle.startswith('"Press Line" has ')
    assert said in obstacle
    with pytest.raises(asyncpg.FeatureNotSupportedError, match=said):
        await connection.execute(CHECK, TABLE, codes(state=[1]), [1])
    # An obstacle of another table does not matter.
    builtin = json.dumps({"app_status": {"table": "error_codes"}})
    assert await connection.fetchval(OBSTACLE, "app_logs", builtin) is None
