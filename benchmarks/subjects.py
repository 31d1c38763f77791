"""Runs the servers that are measured: the receiver and, for comparison, VictoriaMetrics."""

from __future__ import annotations

import os
import secrets
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from urllib.parse import urlsplit

import asyncpg
import psutil

from receiver.config.settings import Settings
from receiver.storage.schema.revisions import migrate

START_TIMEOUT = 60.0


class Subject:
    """A server process with all of its child processes."""

    def __init__(self, url: str, process: psutil.Process) -> None:
        self.url = url
        self._process = process

    def _everyone(self) -> list[psutil.Process]:
        return [self._process, *self._process.children(recursive=True)]

    def workers(self) -> list[psutil.Process]:
        """Return the processes that answer requests."""
        spawned = [
            one for one in self._process.children() if "--multiprocessing-fork" in one.cmdline()
        ]
        return spawned or [self._process]

    def cpu_seconds(self) -> float:
        """Return the CPU time of all its processes so far, in seconds."""
        times = [one.cpu_times() for one in self._everyone()]
        return float(sum(one.user + one.system for one in times))

    def memory(self) -> int:
        """Return the resident memory of its largest process, in bytes."""
        return max(int(one.memory_info().rss) for one in self._everyone())


@contextmanager
def receiver(database_url: str, *flags: str) -> Iterator[Subject]:
    """Run a receiver on a free port; yield it once it is ready."""
    port = free_port()
    environment = {k: v for k, v in os.environ.items() if not k.startswith("RECEIVER_")}
    command = [sys.executable, "-m", "receiver", "serve", f"--listen=127.0.0.1:{port}"]
    environment |= {"RECEIVER_DATABASE_URL": database_url, "RECEIVER_LOG_LEVEL": "warning"}
    with running([*command, *flags], f"http://127.0.0.1:{port}/-/ready", environment) as process:
        yield Subject(f"http://127.0.0.1:{port}/api/v1/write", process)


@contextmanager
def victoria_metrics() -> Iterator[Subject | None]:
    """Run VictoriaMetrics on a free port; yield None if it is not installed."""
    program = shutil.which("victoria-metrics")
    if program is None:
        yield None
        return
    port = free_port()
    with tempfile.TemporaryDirectory() as directory:
        command = [program, f"-storageDataPath={directory}", f"-httpListenAddr=127.0.0.1:{port}"]
        health = f"http://127.0.0.1:{port}/health"
        with running([*command, "-retentionPeriod=100y"], health, dict(os.environ)) as process:
            yield Subject(f"http://127.0.0.1:{port}/api/v1/write", process)


@contextmanager
def running(
    command: list[str], health: str, environment: dict[str, str]
) -> Iterator[psutil.Process]:
    """Run a server until the end of the block; yield its process once it is healthy."""
    with tempfile.TemporaryFile() as log:
        process = subprocess.Popen(command, env=environment, stdout=log, stderr=log)
        try:
            deadline = time.monotonic() + START_TIMEOUT
            while not is_healthy(health):
                if process.poll() is not None or time.monotonic() > deadline:
                    log.seek(0)
                    raise RuntimeError(f"{command[0]} did not start: {log.read().decode()}")
                time.sleep(0.05)
            yield psutil.Process(process.pid)
        finally:
            process.terminate()
            process.wait()


def is_healthy(url: str) -> bool:
    """Return whether a server answers 200 at a URL."""
    try:
        with urllib.request.urlopen(url, timeout=1) as answer:
            return bool(answer.status == 200)
    except urllib.error.HTTPError as refusal:
        # The error holds the connection.
        refusal.close()
        return False
    except OSError:
        return False


def free_port() -> int:
    """Return a port that is free now."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])


@asynccontextmanager
async def scratch_database(server_url: str, tables_file: Path | None = None) -> AsyncIterator[str]:
    """Create a database with the declared tables; yield its URL and drop it at the end."""
    name = f"receiver_benchmark_{secrets.token_hex(4)}"
    server = await asyncpg.connect(server_url)
    await server.execute(f"CREATE DATABASE {name} ENCODING 'UTF8' TEMPLATE template0")
    url = urlsplit(server_url)._replace(path=f"/{name}").geturl()
    try:
        await migrate(Settings.load(database_url=url, tables_file=tables_file))
        yield url
    finally:
        await server.execute(f"DROP DATABASE {name} WITH (FORCE)")
        await server.close()
