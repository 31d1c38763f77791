"""Runs the demo's Prometheus: a process that ends with the demo, even if the demo is killed."""

from __future__ import annotations

import asyncio
import os
import re
import socket
import tempfile
from asyncio.subprocess import DEVNULL, PIPE, STDOUT, Process
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Final

import yaml

from receiver.demo.sender import Configuration, Sender
from receiver.errors import SetupError

STOP_TIMEOUT: Final = 15.0
"""Seconds until a Prometheus that does not stop is killed."""

# Not the demo's environment, which may hold the database's password.
ENVIRONMENT: Final = {"PATH": os.defpath}

# A shell that starts a watcher and then becomes the program. The watcher reads the pipe on standard
# input: an orderly end writes a line to it; if the demo is killed, the pipe closes without a line,
# and the watcher ends the program.
WATCHED: Final = 'exec 3<&0 </dev/null; (read -r _ <&3 || kill $$) & exec "$@" 3<&-'


async def prometheus(program: str, configuration: Configuration) -> Sender:
    """Return Prometheus as the sender, with the configuration.

    Raises:
        SetupError: the program cannot be run.
    """
    listen = f"127.0.0.1:{free_port()}"
    description = f"Prometheus {await find_version(program)}, http://{listen}"
    return Sender(description, partial(run, program, configuration, listen))


async def run(program: str, configuration: Configuration, listen: str) -> None:
    """Run Prometheus until cancelled, with its data in a temporary directory.

    Raises:
        SetupError: Prometheus ended by itself.
    """
    with tempfile.TemporaryDirectory(prefix="receiver-demo-") as name:
        directory = Path(name)
        file, log = directory / "prometheus.yml", directory / "prometheus.log"
        file.write_text(yaml.safe_dump(configuration), encoding="utf-8")
        options = (f"--storage.tsdb.path={directory / 'data'}", f"--web.listen-address={listen}")
        async with process(log, program, f"--config.file={file}", *options) as started:
            code = await started.wait()
            raise SetupError(f"Prometheus ended with exit code {code}: {last_lines(log)}")


async def find_version(program: str) -> str:
    """Ask the program for its version.

    Raises:
        SetupError: it cannot be run, or is not Prometheus.
    """
    try:
        asked = await asyncio.create_subprocess_exec(
            program, "--version", stdin=DEVNULL, stdout=PIPE, stderr=STDOUT, env=ENVIRONMENT
        )
    except OSError as error:
        raise SetupError(f"{program} cannot be run: {error.strerror}") from error
    output, _ = await asked.communicate()
    version = re.match(r"prometheus, version (\S+)", output.decode(errors="replace"))
    if version is None:
        raise SetupError(f"{program} does not look like Prometheus; try --sender builtin")
    return version[1]


@asynccontextmanager
async def process(log: Path, *command: str) -> AsyncIterator[Process]:
    """Run a command in the background, with its output in a file."""
    reading, writing = os.pipe()
    try:
        with log.open("wb") as output:
            started = await asyncio.create_subprocess_exec(
                *("/bin/sh", "-c", WATCHED, "sh", *command),
                stdin=reading,
                stdout=output,
                stderr=STDOUT,
                cwd=log.parent,
                env=ENVIRONMENT,
                start_new_session=True,  # Ctrl-C is for the demo, which then ends Prometheus
            )
        try:
            yield started
        finally:
            await stop(started)
            os.write(writing, b"ended\n")
    finally:
        os.close(reading)
        os.close(writing)


async def stop(started: Process) -> None:
    """Stop Prometheus; it sends its remaining samples first."""
    if started.returncode is not None:
        return
    started.terminate()
    try:
        async with asyncio.timeout(STOP_TIMEOUT):
            await started.wait()
    except TimeoutError:
        started.kill()
        await started.wait()


def last_lines(log: Path) -> str:
    """Return the end of the log, which should show the reason."""
    lines = log.read_text(encoding="utf-8", errors="replace").splitlines()
    return " / ".join(lines[-3:])


def free_port() -> int:
    """Return a free port."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
