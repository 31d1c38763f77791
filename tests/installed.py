"""Test servers from an installed PostgreSQL, with extensions that the embedded one lacks."""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Final

import pytest

from receiver.embedded.system import Account, run, system_account
from tests.faults.processes import free_port
from tests.faults.wire import HOST

USUAL: Final = {"fsync": "off", "listen_addresses": HOST, "unix_socket_directories": ""}


@cache
def find_programs(*extensions: str) -> Path | None:
    """Return the program directory of an installed PostgreSQL that has these extensions."""
    installed = sorted(Path("/usr/lib/postgresql").glob("*/bin/pg_config"), reverse=True)
    for program in (*filter(None, [shutil.which("pg_config")]), *map(str, installed)):
        share = Path(run(program, "--sharedir")[1])
        if all((share / f"extension/{name}.control").exists() for name in extensions):
            return Path(run(program, "--bindir")[1])
    return None


def require_programs(*extensions: str) -> Path:
    """Like `find_programs`, but skip the test if there is no such PostgreSQL."""
    if (programs := find_programs(*extensions)) is None:
        pytest.skip(f"no PostgreSQL with {' and '.join(extensions)} is installed")
    return programs


class Installed:
    """A server of an installed PostgreSQL, which keeps its port over restarts.

    Args:
        programs: Directory of its programs.
        settings: Settings of `postgresql.conf`.
        directory: Holds the data; the account that runs PostgreSQL must have access to it.
    """

    def __init__(self, programs: Path, settings: Mapping[str, str], directory: Path) -> None:
        self.port = free_port()
        self.url = f"postgresql://postgres@{HOST}:{self.port}/postgres"
        self._programs = programs
        self._data = directory / "postgres"
        self._settings = {**USUAL, "port": str(self.port), **settings}
        self._account: Account | None = None

    def start(self) -> str:
        """Start the server, with a new data directory if it has none; return its URL."""
        if not self._data.exists():
            self._create()
        self._must("pg_ctl", "start", "-w", "-D", str(self._data), "-l", str(self._data / "log"))
        return self.url

    def stop(self) -> None:
        """Stop the server if it runs, without waiting for clients to disconnect."""
        if (self._data / "postmaster.pid").exists():
            run(
                *(self._programs / "pg_ctl", "stop", "-w", "-D", str(self._data), "-m", "fast"),
                to=self._account,
            )

    def _create(self) -> None:
        if os.geteuid() == 0:
            self._account = system_account(self._data)
        self._data.mkdir(mode=0o700)
        if self._account:
            os.chown(self._data, *self._account)
        options = ("--username=postgres", "--auth=trust", "--encoding=UTF8", "--locale=C.UTF-8")
        self._must("initdb", "-D", str(self._data), "--no-sync", *options)
        lines = (f"{name} = '{value}'\n" for name, value in self._settings.items())
        with (self._data / "postgresql.conf").open("a") as file:
            file.writelines(lines)

    def _must(self, program: str, *arguments: str) -> None:
        code, output = run(self._programs / program, *arguments, to=self._account)
        assert code == 0, output
