"""Databases and roles for one test, on a shared server."""

from __future__ import annotations

import re
import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from urllib.parse import urlsplit

import asyncpg


def as_role(url: str, role: str) -> str:
    """Return the URL with another role; the test servers require no password."""
    parts = urlsplit(url)
    host = parts.netloc.rpartition("@")[2]
    return parts._replace(netloc=f"{role}@{host}").geturl()


@asynccontextmanager
async def plain_role(database_url: str) -> AsyncIterator[str]:
    """Create a role that owns nothing and has only the privileges of PUBLIC."""
    role = f"receiver_test_{secrets.token_hex(6)}"
    connection = await asyncpg.connect(database_url)
    await connection.execute(f"CREATE ROLE {role} LOGIN")
    try:
        yield role
    finally:
        await connection.execute(f"DROP OWNED BY {role}; DROP ROLE {role}")
        await connection.close()


@asynccontextmanager
async def latin1_database(server_url: str) -> AsyncIterator[str]:
    """Create a database whose encoding, LATIN1, cannot represent every text."""
    name = f"receiver_latin1_{secrets.token_hex(6)}"
    server = await asyncpg.connect(server_url)
    await server.execute(
        f"CREATE DATABASE {name} ENCODING 'LATIN1' LOCALE 'C' "
        "LOCALE_PROVIDER libc TEMPLATE template0"
    )
    try:
        yield urlsplit(server_url)._replace(path=f"/{name}").geturl()
    finally:
        await server.execute(f"DROP DATABASE {name} WITH (FORCE)")
        await server.close()


async def execute(database_url: str, *statements: str) -> None:
    """Run statements as the superuser."""
    connection = await asyncpg.connect(database_url)
    for statement in statements:
        await run_script(connection, statement)
    await connection.close()


async def run_script(connection: asyncpg.Connection, script: str) -> None:
    """Run a script statement by statement, as Citus refuses some scripts of several statements."""
    for statement in filter(None, re.split(r";\s*\n", script)):
        await connection.execute(statement)
