"""A Citus cluster for fault injection: a coordinator and two workers."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncIterator
from contextlib import ExitStack, asynccontextmanager
from functools import partial
from typing import Final, Self
from urllib.parse import urlsplit

from tests.cluster import add_nodes, create, run, worker_databases
from tests.faults.processes import Database, Server
from tests.faults.wire import HOST
from tests.installed import Installed, require_programs
from tests.roles import as_role

WORKERS: Final = 2
SETTINGS: Final = {
    "shared_preload_libraries": "citus",
    "wal_level": "logical",
    "max_prepared_transactions": "200",
    "max_worker_processes": "32",
    # The default requires TLS, for which the nodes would create certificates.
    "citus.node_conninfo": "sslmode=prefer",
    "citus.recover_2pc_interval": "1s",
}


class Node(Server):
    """A server of a cluster, which runs during the `with` block."""

    sessions = "application_name LIKE 'citus_internal%'"

    def __init__(self, max_connections: int = 200) -> None:
        settings = {**SETTINGS, "max_connections": str(max_connections)}
        programs = require_programs("citus")
        super().__init__(partial(Installed, programs, settings))

    def __enter__(self) -> Self:
        self.postgres.start()
        return self

    @property
    def port(self) -> int:
        port = urlsplit(self.postgres.url).port
        assert port is not None
        return port


class Cluster(Node):
    """The coordinator, which also starts and stops its workers."""

    sessions = Server.sessions

    def __init__(self) -> None:
        super().__init__(max_connections=60)
        self.settings = {"shards": 4, "commit_timeout": "3s"}
        self._running = ExitStack()

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            nodes = [stack.enter_context(Node()) for _ in range(WORKERS)]
            stack.push(super().__exit__)
            super().__enter__()
            self.workers = list(nodes)
            asyncio.run(self._gather(nodes))
            self._running = stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._running.close()

    async def _gather(self, nodes: list[Node]) -> None:
        for node in (self, *nodes):
            await run(node.postgres.url, "CREATE EXTENSION citus")
        workers = [(HOST, node.port) for node in nodes]
        await run(self.postgres.url, *add_nodes(HOST, self.port, workers))

    @asynccontextmanager
    async def database(self) -> AsyncIterator[Database]:
        name = f"faults_{secrets.token_hex(6)}"
        # Citus propagates the role to the workers.
        await self.execute(f"CREATE ROLE {name} LOGIN")
        await self.execute(create(name, name))
        async with worker_databases(self.postgres.url, name, name):
            url = urlsplit(self.postgres.url)._replace(path=f"/{name}").geturl()
            yield Database(name, as_role(url, name))
        await self.execute(f"DROP DATABASE {name} WITH (FORCE)")
        await self.execute(f"DROP ROLE {name}")
