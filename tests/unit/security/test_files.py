"""Files are reloaded when they change, and broken ones change nothing."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

import pytest

from receiver.errors import SettingsError
from receiver.security.files import Reloaded


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "file"
    path.write_text("one")
    return path


def reloaded(file: Path) -> Reloaded[str]:
    def read() -> str:
        text = file.read_text() if file.exists() else "broken"
        if text == "broken":
            raise SettingsError("it is broken")
        return text

    return Reloaded([file], read)


def replace(file: Path, text: str) -> None:
    """Replace the file by a new one, as an administrator's tools do."""
    other = file.with_suffix(".new")
    other.write_text(text)
    os.utime(other, ns=(1, 1))
    other.rename(file)


@pytest.mark.parametrize("write", [Path.write_text, replace])
async def test_a_change_is_read(file: Path, write: object) -> None:
    found = reloaded(file)
    assert callable(write)
    for text in ("two", "one", "three"):
        write(file, text)
        await found.look()
        assert found.value == text


async def test_a_broken_file_changes_nothing_and_is_told_once(
    file: Path, caplog: pytest.LogCaptureFixture
) -> None:
    found = reloaded(file)
    replace(file, "broken")
    for _ in range(3):
        await found.look()
    assert found.value == "one"
    assert [record.message for record in caplog.records] == [
        "it is broken; the previous values stay in use"
    ]
    await asyncio.to_thread(file.unlink)
    await found.look()
    assert found.value == "one"
    replace(file, "two")
    await found.look()
    assert found.value == "two"


def test_a_broken_file_at_the_start_is_a_fault(file: Path) -> None:
    replace(file, "broken")
    with pytest.raises(SettingsError, match="it is broken"):
        reloaded(file)


async def test_an_unchanged_file_is_not_read(file: Path) -> None:
    found = reloaded(file)
    found._read = lambda: pytest.fail("it was read")
    await found.look()
