"""Shared fixtures: a real PostgreSQL, and a fresh database for each test."""

from __future__ import annotations

import os
import secrets
import shutil
import signal
import tempfile
from collections.abc import AsyncIterator, Callable, Generator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import asyncpg
import pytest
import pytest_asyncio
from hypothesis import settings as hypothesis_settings

from receiver.config.settings import Settings
from receiver.embedded import EmbeddedPostgres
from receiver.rows import batch
from receiver.storage.schema.revisions import migrate
from tests import not_on_citus
from tests.cluster import worker_databases

hypothesis_settings.register_profile("default", deadline=None)
hypothesis_settings.load_profile("default")

# A background job of a shell ignores both signals, and programs started by the tests inherit that.
signal.signal(signal.SIGINT, signal.default_int_handler)
signal.signal(signal.SIGQUIT, signal.SIG_DFL)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        name = item.nodeid.removeprefix("tests/")
        if not_on_citus.IS_CHOSEN and (reason := not_on_citus.find_reason(name)):
            item.add_marker(pytest.mark.skip(reason=f"not on Citus: {reason}"))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call() -> Generator[None, object, object]:
    try:
        return (yield)
    except asyncpg.PostgresError as error:
        if not_on_citus.IS_CHOSEN and not_on_citus.is_refused(error):
            pytest.skip(f"Citus refuses it: {error}")
        raise


@pytest.fixture(scope="session")
def shared_dir() -> Iterator[Path]:
    """Yield a directory that the embedded database's user can access, unlike pytest's."""
    directory = Path(tempfile.mkdtemp(prefix="receiver-tests-"))
    directory.chmod(0o711)
    yield directory
    shutil.rmtree(directory)


def named_server() -> str | None:
    """Return the URL of the server to use instead of the embedded one."""
    names = ("RECEIVER_TEST_CITUS_URL", "RECEIVER_TEST_DATABASE_URL")
    return next(filter(None, map(os.environ.get, names)), None)


@pytest.fixture(scope="session")
def server_url(shared_dir: Path) -> Iterator[str]:
    """Yield the URL of a server on which tests may create databases; by default the embedded one.

    RECEIVER_TEST_CITUS_URL names the coordinator of a cluster, in a database that has the extension
    and knows the worker nodes; RECEIVER_TEST_DATABASE_URL any other server.
    """
    if url := named_server():
        yield url
        return
    embedded = EmbeddedPostgres(shared_dir)
    yield embedded.start()
    embedded.stop()


@asynccontextmanager
async def fresh_database(server_url: str, template: str = "template0") -> AsyncIterator[str]:
    """Create a database from the template, by default an empty one; drop it at the end."""
    name = f"receiver_test_{secrets.token_hex(6)}"
    server = await asyncpg.connect(server_url)
    try:
        await server.execute(f"CREATE DATABASE {name} ENCODING 'UTF8' TEMPLATE {template}")
        async with worker_databases(server_url, name):
            yield urlsplit(server_url)._replace(path=f"/{name}").geturl()
        await server.execute(f"DROP DATABASE {name} WITH (FORCE)")
    finally:
        await server.close()


@pytest.fixture
async def empty_database_url(server_url: str) -> AsyncIterator[str]:
    """Yield the URL of a fresh, empty database."""
    async with fresh_database(server_url) as url:
        yield url


MakeSettings = Callable[..., Settings]


@pytest.fixture(autouse=True)
def no_settings_from_outside(monkeypatch: pytest.MonkeyPatch) -> None:
    """Hide settings in the environment from tests and from the programs that they start."""
    forget_settings(monkeypatch)


def forget_settings(patch: pytest.MonkeyPatch) -> None:
    """Remove all settings from the environment."""
    for name in os.environ:
        if name.startswith("RECEIVER_"):
            patch.delenv(name)


@pytest.fixture
def make_settings(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> MakeSettings:
    """Return a function that makes settings independent of anything outside the test."""
    monkeypatch.chdir(tmp_path)

    def make(**values: Any) -> Settings:  # noqa: ANN401  any setting
        return Settings.load(**{"listen": "127.0.0.1:0", **values})

    return make


@pytest.fixture(scope="module")
def few_are_many() -> Iterator[None]:
    """Assemble rows from arrays of samples even for the smallest batches."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(batch, "FEWEST", 1)
        yield


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def template(server_url: str) -> AsyncIterator[str | None]:
    """Yield the name of a database with the current schema: copying is faster than migrating.

    None on other servers: a database in which extensions hold connections cannot be copied.
    """
    if named_server():
        yield None
        return
    async with fresh_database(server_url) as url:
        with pytest.MonkeyPatch.context() as patch:
            forget_settings(patch)
            settings = Settings.load(database_url=url)
        await migrate(settings)
        yield urlsplit(url).path.removeprefix("/")


@pytest.fixture
async def database_url(
    server_url: str, template: str | None, make_settings: MakeSettings
) -> AsyncIterator[str]:
    """Yield the URL of a fresh database with the current schema."""
    async with fresh_database(server_url, template or "template0") as url:
        if not template:
            await migrate(make_settings(database_url=url))
        yield url


@pytest.fixture
async def connection(database_url: str) -> AsyncIterator[asyncpg.Connection]:
    """Yield a connection to the test's database."""
    connection = await asyncpg.connect(database_url)
    yield connection
    await connection.close()
