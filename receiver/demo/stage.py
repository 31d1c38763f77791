"""Starts the database, receiver and applications of the demo, and stops them in reverse order."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Final, NamedTuple

from aiohttp import web
from pydantic import SecretStr

from receiver.config.settings import Settings
from receiver.demo.application import applications
from receiver.demo.tables import tables_file
from receiver.embedded.running import embedded_database
from receiver.errors import SettingsError, SetupError
from receiver.http import paths
from receiver.process.app import STORE, build_app
from receiver.process.server import running
from receiver.storage.connection.database import session, used
from receiver.storage.schema.declaration import find_other_receiver
from receiver.storage.store import Store

APPLICATIONS: Final = ("station-1", "station-2")
"""Labels `instance` of the applications; their ports differ from start to start."""


class Stage(NamedTuple):
    """A running receiver and two running applications."""

    settings: Settings
    opening: asyncio.Task[None]
    """Task that ends when the receiver can store samples."""
    targets: dict[str, str]
    """HOST:PORT of each application, by its label `instance`."""
    url: str
    """The receiver's address for writing."""
    places: dict[str, str]
    """Addresses and paths for people, by name."""
    page: str
    """The address of the page."""
    token: str | None
    """The sender's token, if the receiver requires credentials."""
    store: Store
    """The receiver's storage."""


@asynccontextmanager
async def set_up(settings: Settings) -> AsyncIterator[Stage]:
    """Run database, receiver and applications.

    Raises:
        SetupError: one of them cannot be started.
    """
    async with AsyncExitStack() as stack:
        # Tables for the sample applications' metrics, instead of the tables in the settings.
        tables = stack.enter_context(tables_file())
        authenticated, token = let_sender_in(settings.model_copy(update={"tables_file": tables}))
        reachable, places = await stack.enter_async_context(database(authenticated))
        app = build_app(reachable)
        runner = await stack.enter_async_context(running(app, reachable))
        targets = await stack.enter_async_context(applications(APPLICATIONS))
        url = write_url(reachable, runner)
        places |= {
            "receiver": url,
            "tables": str(tables),
            "applications": " ".join(f"http://{target}/metrics" for target in targets.values()),
        }
        page = url.removesuffix(paths.WRITE) + "/"
        store = app[STORE]
        yield Stage(reachable, store.opening, targets, url, places, page, token, store)


def let_sender_in(settings: Settings) -> tuple[Settings, str | None]:
    """Add a token for the demo's sender to the settings, if credentials are required.

    Raises:
        SettingsError: a client certificate is required, which the sender does not have.
    """
    if not settings.requires_credentials:
        return settings, None
    if settings.tls_client_ca_file is not None:
        raise SettingsError(
            f"RECEIVER_TLS_CLIENT_CA_FILE={settings.tls_client_ca_file}: the demo's sender has no "
            "client certificate; unset it for the demo"
        )
    token = secrets.token_hex(32)
    tokens = SecretStr("\n".join([*settings.bearer_tokens, token]))
    return settings.model_copy(update={"bearer_token": tokens}), token


@asynccontextmanager
async def database(settings: Settings) -> AsyncIterator[tuple[Settings, dict[str, str]]]:
    """Yield settings that name a database, and its address: the configured or the demo's own one.

    Raises:
        SetupError: the configured database is that of a receiver with other tables.
    """
    if settings.database_url is not None:
        await spare_others(settings)
        yield settings, {"database": "the one that RECEIVER_DATABASE_URL (--database-url) names"}
        return
    # Separate from the rows of a real receiver.
    directory = settings.data_dir / "demo"
    async with embedded_database(directory) as embedded:
        places = {"data": str(directory), "psql": embedded.psql_command}
        yield settings.model_copy(update={"database_url": SecretStr(embedded.url)}), places


async def spare_others(settings: Settings) -> None:
    """Refuse the database of a receiver with other tables, which would store nothing any more.

    Raises:
        SetupError: the database is that of a receiver with other tables.
    """
    async with session(settings) as connection, used(connection):
        others = await find_other_receiver(connection, settings.catalogue)
    if others is not None:
        raise SetupError(
            f"RECEIVER_DATABASE_URL (--database-url) names the database of a receiver with other "
            f"tables ({others}), which would store nothing once the demo has declared its own; "
            "name an empty database, or none: then the demo makes one of its own"
        )


def write_url(settings: Settings, runner: web.AppRunner) -> str:
    """Return the receiver's address for writing, with the actual port."""
    host, _, _ = settings.listen.rpartition(":")
    listen = f"{host}:{runner.addresses[0][1]}"
    return settings.model_copy(update={"listen": listen}).own_url + paths.WRITE
