"""Databases on all nodes of a Citus cluster."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from urllib.parse import urlsplit

import asyncpg

from receiver.storage.connection.connecting import is_distributed
from receiver.storage.schema.citus import FILL_KEYS
from tests.waiting import until

FIND_NODES = """
SELECT nodename, nodeport FROM pg_dist_node
WHERE noderole = 'primary' AND groupid <> 0 ORDER BY 1, 2
"""
HAS_NODES = "SELECT to_regclass('pg_dist_node') IS NOT NULL"


def on_node(url: str, host: str, port: int, database: str | None = None) -> str:
    """Return the URL of a database on another node."""
    parts = urlsplit(url)
    user = parts.netloc.rpartition("@")[0]
    path = parts.path if database is None else f"/{database}"
    return parts._replace(netloc=f"{user}@{host}:{port}", path=path).geturl()


async def find_workers(url: str) -> list[tuple[str, int]]:
    """Return the worker nodes that a database knows; none without Citus."""
    connection = await asyncpg.connect(url)
    try:
        if not await connection.fetchval(HAS_NODES):
            return []
        return [tuple(row) for row in await connection.fetch(FIND_NODES)]
    finally:
        await connection.close()


@asynccontextmanager
async def worker_databases(
    server_url: str, name: str, owner: str = "postgres"
) -> AsyncIterator[None]:
    """Add a new database to the Citus cluster of the server's own database, if there is one."""
    workers = await find_workers(server_url)
    for host, port in workers:
        await run(on_node(server_url, host, port), create(name, owner))
        await run(on_node(server_url, host, port, name), "CREATE EXTENSION citus")
    parts = urlsplit(server_url)
    own = on_node(server_url, parts.hostname or "", parts.port or 5432, name)
    if workers:
        await run(own, "CREATE EXTENSION citus", *add_nodes(parts.hostname, parts.port, workers))
    yield
    for host, port in workers:
        await drop(own, on_node(server_url, host, port), name)


def create(name: str, owner: str) -> str:
    """Return the statement that creates a database."""
    return f"CREATE DATABASE {name} OWNER {owner} ENCODING 'UTF8' TEMPLATE template0"


def add_nodes(host: str | None, port: int | None, workers: list[tuple[str, int]]) -> Iterator[str]:
    """Yield the statements that form a cluster of the coordinator at `host` and its workers."""
    # Otherwise Citus copies all roles to a node, including those of tests that run concurrently.
    yield "SET citus.enable_create_role_propagation = off"
    yield "SET citus.enable_alter_role_propagation = off"
    yield f"SELECT citus_set_coordinator_host('{host}', {port or 5432})"
    yield from (f"SELECT citus_add_node('{name}', {number})" for name, number in workers)


async def drop(coordinator: str, node: str, name: str) -> None:
    """Drop a database of a node, once no prepared transaction is left in it."""

    async def dropped() -> bool:
        await run(coordinator, "SELECT recover_prepared_transactions()")
        try:
            await run(node, f"DROP DATABASE {name} WITH (FORCE)")
        except asyncpg.ObjectInUseError:
            return False
        return True

    await until(dropped)


async def run(url: str, *statements: str) -> None:
    """Run statements, each in its own transaction."""
    connection = await asyncpg.connect(url)
    try:
        for statement in statements:
            await connection.execute(statement)
    finally:
        await connection.close()


async def keep_keys(connection: asyncpg.Connection) -> None:
    """Fill `source_keys` for sources inserted by a test, as the write path does for its own."""
    if await is_distributed(connection):
        await connection.execute(FILL_KEYS)
