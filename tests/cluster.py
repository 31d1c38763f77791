"""Databases on all nodes of a Citus cluster."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from urllib.parse import urlsplit

import asyncpg

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
    """Return the worker nodes that a database knows; none where there is no Citus."""
    connection = await asyncpg.connect(url)
    try:
        if not await connection.fetchval(HAS_NODES):
            return []
        return [tuple(row) for row in await connection.fetch(FIND_NODES)]
    finally:
        await connection.close()


@asynccontextmanager
async def worker_databases(server_url: str, name: str) -> AsyncIterator[None]:
    """Make a new database one of the cluster that the server's own database is of, if it is."""
    workers = await find_workers(server_url)
    for host, port in workers:
        await run(on_node(server_url, host, port), f"CREATE DATABASE {name} TEMPLATE template0")
        await run(on_node(server_url, host, port, name), "CREATE EXTENSION citus")
    if workers:
        parts = urlsplit(server_url)
        own = on_node(server_url, parts.hostname or "", parts.port or 5432, name)
        await run(
            own,
            "CREATE EXTENSION citus",
            f"SELECT citus_set_coordinator_host('{parts.hostname}', {parts.port or 5432})",
            *(f"SELECT citus_add_node('{host}', {port})" for host, port in workers),
        )
    yield
    for host, port in workers:
        await run(on_node(server_url, host, port), f"DROP DATABASE {name} WITH (FORCE)")


async def run(url: str, *statements: str) -> None:
    """Run statements, each in a transaction of its own."""
    connection = await asyncpg.connect(url)
    try:
        for statement in statements:
            await connection.execute(statement)
    finally:
        await connection.close()
