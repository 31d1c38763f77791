"""A server that loads both Citus and TimescaleDB, which exclude each other in a database."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import asyncpg
import pytest

from receiver.errors import SetupError
from receiver.storage.diagnosis import diagnose
from receiver.storage.diagnosis.findings import Level
from receiver.storage.schema.revisions import check_schema, migrate
from tests.conftest import MakeSettings
from tests.installed import Installed, require_programs
from tests.receivers import receiving
from tests.roles import execute

LOADED = {
    "shared_preload_libraries": "citus,timescaledb",
    "max_worker_processes": "32",
    "max_prepared_transactions": "20",
    "citus.node_conninfo": "sslmode=prefer",
    "timescaledb.telemetry_level": "off",
}
NOW = 1_700_000_000_000
EXTENSIONS = "SELECT extname FROM pg_extension WHERE extname IN ('citus', 'timescaledb')"


@pytest.fixture(scope="module")
def server(shared_dir: Path) -> Iterator[Installed]:
    programs = require_programs("citus", "timescaledb")
    directory = shared_dir / "both"
    directory.mkdir(mode=0o711)
    server = Installed(programs, LOADED, directory)
    server.start()
    yield server
    server.stop()


@pytest.mark.parametrize("extension", ["citus", "timescaledb"])
async def test_a_database_with_one_of_them_is_not_given_the_other(
    extension: str, server: Installed, make_settings: MakeSettings
) -> None:
    await execute(server.url, f"CREATE DATABASE only_{extension}")
    url = f"{server.url.removesuffix('/postgres')}/only_{extension}"
    await execute(url, f"CREATE EXTENSION {extension}")
    settings = make_settings(database_url=url)
    async with receiving(settings) as receiver:
        await receiver.send(
            ({"__name__": "app_status"}, NOW, 0), ({"__name__": "ocr_value"}, NOW, NOW / 1000)
        )
    connection = await asyncpg.connect(url)
    assert [name for (name,) in await connection.fetch(EXTENSIONS)] == [extension]
    assert await connection.fetchval("SELECT count(*) FROM app_logs") == 1
    await connection.close()


async def test_a_database_with_both_ends_with_one_line(
    server: Installed, make_settings: MakeSettings
) -> None:
    await execute(server.url, "CREATE DATABASE with_both")
    url = f"{server.url.removesuffix('/postgres')}/with_both"
    settings = make_settings(database_url=url)
    # A realistic case: a TimescaleDB with rows, on which somebody then tries Citus.
    await migrate(settings)
    await execute(url, "CREATE EXTENSION citus")
    for look in (migrate, check_schema):
        with pytest.raises(SetupError, match="both Citus and TimescaleDB") as error:
            await look(settings)
        assert "\n" not in str(error.value)
    found = [finding async for _, finding in diagnose(settings)]
    assert any(
        finding.level is Level.PROBLEM and "both Citus and TimescaleDB" in finding.found
        for finding in found
    )
