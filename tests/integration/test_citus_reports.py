"""The runs that reports use, on tables that Citus distributes (RECEIVER_TEST_CITUS_URL)."""

from __future__ import annotations

import os

import asyncpg
import pytest

from receiver.storage.schema.revisions import migrate
from tests.conftest import MakeSettings

pytestmark = pytest.mark.skipif(
    not os.environ.get("RECEIVER_TEST_CITUS_URL"),
    reason="RECEIVER_TEST_CITUS_URL names no cluster",
)

FILL = """
INSERT INTO sources (labels, digest)
SELECT jsonb_build_object('n', n), sha256(n::text::bytea) FROM generate_series(1, 60) AS n;
INSERT INTO source_keys SELECT id FROM sources;
INSERT INTO app_logs (created_at, app_status, ocr_value, source_id)
SELECT now() - minute * INTERVAL '1 minute', (minute + k.id) / 7 % 3, now(), k.id
FROM generate_series(1, 90) AS minute, source_keys k
"""
# Runs of all sources at once, and of each source in turn.
RUNS = "receiver_code_runs('app_logs', 'app_status', now() - INTERVAL '1 hour', now(), {sources})"
AT_ONCE = f"SELECT r.* FROM {RUNS.format(sources='$1')} AS r ORDER BY 1, 3"
ONE_BY_ONE = f"""
SELECT r.* FROM unnest($1::int[]) AS id, LATERAL {RUNS.format(sources="ARRAY[id]")} AS r
ORDER BY 1, 3
"""


@pytest.mark.parametrize("retention", [None, "30d"])
async def test_runs_are_the_same_at_once_and_one_by_one(
    empty_database_url: str, make_settings: MakeSettings, retention: str | None
) -> None:
    await migrate(make_settings(database_url=empty_database_url, shards=4, retention=retention))
    connection = await asyncpg.connect(empty_database_url)
    try:
        await connection.execute(FILL)
        sources = await connection.fetchval("SELECT array_agg(id) FROM source_keys")
        async with connection.transaction():
            at_once = await connection.fetch(AT_ONCE, sources)
            one_by_one = await connection.fetch(ONE_BY_ONE, sources)
        assert len(at_once) > len(sources) == 60
        assert [tuple(row) for row in at_once] == [tuple(row) for row in one_by_one]
    finally:
        await connection.close()
