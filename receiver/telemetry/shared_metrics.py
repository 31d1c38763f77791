"""The directory in which the metrics of several workers come together, and what removes it."""

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
"""Where prometheus_client finds its directory, when it is imported."""
OPEN_FILES: Final = Path("/proc/self/fd")
DELETED: Final = " (deleted)"
"""What the kernel puts after the name of an open file that has none any more."""


@contextmanager
def shared_metrics() -> Iterator[Path]:
    """A directory for the metrics of the workers that are started meanwhile.

    Raises:
        SetupError: there is nowhere to make one.
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
    """Writes this process' files anew after somebody has removed them, as cleaners of /tmp do.

    The process still counts in the files that have no name any more, so from then on their content
    is copied. Where there is no /proc, nothing is done.

    Args:
        directory: Where the files are.
    """

    def __init__(self, directory: Path) -> None:
        self._directory = directory.resolve()
        self._names: set[str] = set()
        self._lost: dict[Path, Path] = {}
        """Where a file should be, and by what it is still open."""

    def keep(self) -> None:
        """Look whether all files are there, and copy those that are not."""
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
