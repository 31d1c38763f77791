"""The directory in which several workers share their metrics."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

from receiver.errors import SetupError

SHARED_METRICS: Final = "PROMETHEUS_MULTIPROC_DIR"
"""Environment variable with the directory, which prometheus_client reads on import."""
OPEN_FILES: Final = Path("/proc/self/fd")
DELETED: Final = " (deleted)"
"""Suffix that the kernel shows for an open file that was removed."""


@contextmanager
def shared_metrics() -> Iterator[Path]:
    """Make a directory for the metrics of workers that are started within this context.

    Raises:
        SetupError: it cannot be made.
    """
    try:
        temporary = tempfile.TemporaryDirectory(prefix="receiver-metrics-")
    except OSError as error:
        raise SetupError(
            f"RECEIVER_WORKERS: the metrics need a directory for temporary files: {error}; set "
            "TMPDIR to one that can be written"
        ) from error
    with temporary as directory:
        os.environ[SHARED_METRICS] = directory
        try:
            yield Path(directory)
        finally:
            del os.environ[SHARED_METRICS]


class KeptFiles:
    """Restores this process's metrics files after a cleaner of /tmp, for example, removed them.

    The process still writes to the removed files, so from then on their content is copied. Without
    /proc, nothing is done.

    Args:
        directory: The directory of the files.
    """

    def __init__(self, directory: Path) -> None:
        self._directory = directory.resolve()
        self._names: set[str] = set()
        self._lost: dict[Path, Path] = {}
        """Path of each removed file, and the path by which it is still open."""

    def keep(self) -> None:
        """Check that all files exist, and copy those that were removed."""
        with suppress(OSError):
            self._directory.mkdir(mode=0o700, parents=True, exist_ok=True)
            there = {path.name for path in self._directory.glob(f"*_{os.getpid()}.db")}
            if not self._names <= there:
                self._find_lost()
            self._names |= there
            for path, opened in self._lost.items():
                new = path.with_suffix(".new")
                shutil.copyfile(opened, new)
                new.replace(path)

    def _find_lost(self) -> None:
        for opened in OPEN_FILES.iterdir():
            with suppress(OSError):
                name = str(opened.readlink())
                path = Path(name.removesuffix(DELETED))
                if name.endswith(DELETED) and path.parent == self._directory:
                    self._lost[path] = opened
