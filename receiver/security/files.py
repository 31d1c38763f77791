"""Reloads files when they change, so that credentials are replaced without a restart."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Final, Generic, TypeAlias, TypeVar

from receiver.errors import SettingsError

logger = logging.getLogger(__name__)

INTERVAL: Final = 1.0
"""Seconds between two checks."""

T = TypeVar("T")
State: TypeAlias = list[tuple[int, int, int] | None]


class Reloaded(Generic[T]):
    """A value read from files, kept up to date within the context `kept_up`.

    Args:
        files: The files.
        read: Reads the value; an error aborts the start, or later keeps the last value.
    """

    def __init__(self, files: Sequence[Path], read: Callable[[], T]) -> None:
        self._files = files
        self._read = read
        # The state is taken first: a change in between is read twice rather than never.
        self._state = state_of(files)
        self.value = read()

    @asynccontextmanager
    async def kept_up(self) -> AsyncIterator[None]:
        """Check for changes until the end of this context."""
        task = asyncio.create_task(self._keep_up()) if self._files else None
        try:
            yield
        finally:
            if task is not None:
                task.cancel()
                with suppress(asyncio.CancelledError):
                    await task

    async def _keep_up(self) -> None:
        while True:
            await asyncio.sleep(INTERVAL)
            await self.look()

    async def look(self) -> None:
        """Read the files if they have changed since the last time."""
        state = state_of(self._files)
        if state == self._state:
            return
        self._state = state
        try:
            self.value = await asyncio.to_thread(self._read)
        except Exception as error:  # noqa: BLE001  whatever it is, the next change must be seen
            logger.error("%s; the previous values stay in use", error)  # noqa: TRY400  a user's file is no bug
        else:
            logger.info("reloaded: %s", ", ".join(map(str, self._files)))


def state_of(files: Sequence[Path]) -> State:
    """Return a state of each file that differs after a change or replacement; None: missing."""
    return [state_of_one(file) for file in files]


def state_of_one(file: Path) -> tuple[int, int, int] | None:
    """Return the modification time, size and inode of a file; None if it is missing."""
    try:
        status = file.stat()
    except OSError:
        return None
    return status.st_mtime_ns, status.st_size, status.st_ino


def read_text(name: str, file: Path) -> str:
    """Read the file that a setting names.

    Raises:
        SettingsError: it cannot be read; the message shows none of its content.
    """
    try:
        return file.read_text(encoding="utf-8")
    except OSError as error:
        raise SettingsError(f"{name}={file}: cannot be read: {error.strerror}") from error
    except UnicodeDecodeError:
        raise SettingsError(f"{name}={file}: is not text") from None
