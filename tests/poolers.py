"""A real pgbouncer in front of the test's database."""

from __future__ import annotations

import asyncio
import os
import pwd
import shutil
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from functools import partial
from pathlib import Path
from urllib.parse import quote

import asyncpg

from receiver.config.database_url import parse_database_url
from tests.programs import require_program
from tests.waiting import until

PORT = 6432
"""Only used as a part of the socket's name."""

CONFIGURATION = """
[databases]
* = {server}
[pgbouncer]
listen_port = {port}
unix_socket_dir = {directory}
auth_type = trust
auth_file = {directory}/users
pool_mode = {mode}
default_pool_size = {size}
logfile = {directory}/log
pidfile = {directory}/pid
{more}
"""


@asynccontextmanager
async def pooling(
    database_url: str, shared_dir: Path, mode: str, *, size: int = 20, more: str = ""
) -> AsyncIterator[str]:
    """Run a pgbouncer with its default configuration; yield the URL of the database behind it.

    Args:
        database_url: URL of the database.
        shared_dir: A directory that the database's user can access.
        mode: Pool mode: session or transaction.
        size: Number of server connections.
        more: Additional lines of configuration.
    """
    program = require_program("pgbouncer")
    address = parse_database_url(database_url)
    ((host, port),) = address.hosts
    directory = shared_dir / f"pgbouncer-{mode}-{os.urandom(4).hex()}"
    directory.mkdir()
    server = f"host={host} port={port} user={address.user}"
    (directory / "ini").write_text(
        CONFIGURATION.format(
            server=server, port=PORT, directory=directory, mode=mode, size=size, more=more
        )
    )
    (directory / "users").write_text(f'"{address.user}" "{address.password or ""}"\n')
    # pgbouncer does not run as root, and only its own user can use the embedded server's socket.
    owner = pwd.getpwuid(os.stat(host).st_uid if host.startswith("/") else os.geteuid())  # noqa: PTH116
    if owner.pw_uid == 0:
        owner = pwd.getpwnam("nobody")
    for path in (directory, *directory.iterdir()):
        os.chown(path, owner.pw_uid, owner.pw_gid)
    process = await asyncio.create_subprocess_exec(
        program, "-q", str(directory / "ini"), user=owner.pw_uid, group=owner.pw_gid
    )
    url = f"postgresql://{address.user}@/{address.database}?host={quote(str(directory))}"
    try:
        await until(partial(listens, directory / f".s.PGSQL.{PORT}"))
        yield f"{url}&port={PORT}"
    finally:
        with suppress(ProcessLookupError):
            process.terminate()
        await process.wait()
        shutil.rmtree(directory)


def listens(path: Path) -> bool:
    """Return whether a process listens at a socket; its file is there a little earlier."""
    with socket.socket(socket.AF_UNIX) as connection, suppress(OSError):
        connection.connect(str(path))
        return True
    return False


async def ask(url: str, query: str) -> list[asyncpg.Record]:
    """Run a query through a pooler, as another client."""
    connection = await asyncpg.connect(url, statement_cache_size=0)
    try:
        return list(await connection.fetch(query))
    finally:
        await connection.close()
