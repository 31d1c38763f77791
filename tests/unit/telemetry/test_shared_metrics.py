"""The files of a worker's metrics survive cleaners of the temporary directory."""

from __future__ import annotations

import os
import shutil
import tempfile
from pathlib import Path

import pytest

from receiver.errors import SetupError
from receiver.telemetry.shared_metrics import SHARED_METRICS, KeptFiles, shared_metrics


@pytest.mark.parametrize("what", ["directory", "file"])
def test_a_file_that_is_removed_is_written_anew(tmp_path: Path, what: str) -> None:
    directory = tmp_path / "metrics"
    directory.mkdir()
    others = directory / "counter_1.db"
    own = directory / f"counter_{os.getpid()}.db"
    others.write_bytes(b"other")
    with own.open("w+b", buffering=0) as file:
        kept = KeptFiles(directory)
        file.write(b"one")
        kept.keep()
        inode = own.stat().st_ino
        if what == "file":
            own.unlink()
        else:
            shutil.rmtree(directory)
        for written in (b"", b", two", b", three"):
            file.write(written)
            kept.keep()
            file.seek(0)
            assert own.read_bytes() == file.read()
        assert own.stat().st_ino != inode
    assert others.exists() is (what == "file")
    assert {path.name for path in directory.iterdir()} <= {own.name, others.name}


def test_without_a_place_for_temporary_files_it_says_what_to_set(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", "/nowhere")
    with pytest.raises(SetupError, match="TMPDIR"), shared_metrics():
        pass


def test_the_directory_lasts_as_long_as_it_is_needed() -> None:
    with shared_metrics() as directory:
        assert os.environ[SHARED_METRICS] == str(directory)
        shutil.rmtree(directory)
    assert not directory.exists()
    assert SHARED_METRICS not in os.environ
