"""Pins each worker of a receiver to its own core, if the machine has enough cores."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Final

import asyncpg
import psutil

OTHERS: Final = 2
"""Cores that the database and the load generator need in addition to those of the workers."""


async def server_processes(url: str) -> list[psutil.Process]:
    """Return the processes of a database server; none if it runs on another machine."""
    connection = await asyncpg.connect(url)
    try:
        with suppress(psutil.Error):
            process = psutil.Process(await connection.fetchval("SELECT pg_backend_pid()"))
            server = process.parent()
            if process.name() == "postgres" and server is not None:
                return [server, *server.children()]
        return []
    finally:
        await connection.close()


@contextmanager
def pinned(workers: Sequence[psutil.Process], others: Sequence[psutil.Process]) -> Iterator[bool]:
    """Pin each worker to its own core and others to the rest; yield whether there are enough.

    The others include this process. Backends and threads that they start inherit their cores.
    """
    cores = sorted(os.sched_getaffinity(0))
    if len(cores) < len(workers) + OTHERS:
        yield False
        return
    own, rest = cores[: len(workers)], cores[len(workers) :]
    given = [*zip(workers, [[core] for core in own], strict=True)]
    given += [(other, rest) for other in (*others, psutil.Process())]
    before: list[tuple[psutil.Process, list[int]]] = []
    try:
        for process, some in given:
            # A backend may have ended.
            with suppress(psutil.NoSuchProcess):
                before.append((process, process.cpu_affinity()))
                process.cpu_affinity(some)
        yield True
    finally:
        for process, some in before:
            with suppress(psutil.Error):
                process.cpu_affinity(some)
