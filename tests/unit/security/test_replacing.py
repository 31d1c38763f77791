"""Files are replaced atomically, keep their permissions, and allow one editor at a time."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from receiver.errors import SetupError
from receiver.security.replacing import edit, look

APPEND = """
import sys
from pathlib import Path
from receiver.security.replacing import edit
for _ in range(20):
    edit(Path(sys.argv[1]), lambda text: text + sys.argv[2] + "\\n")
"""


def add(text: str) -> str:
    return text + "더\r\n"


def mode(file: Path) -> int:
    return stat.S_IMODE(file.stat().st_mode)


@pytest.mark.parametrize("umask", [0o000, 0o077])
def test_a_file_that_is_made_is_its_owners_alone(tmp_path: Path, umask: int) -> None:
    before = os.umask(umask)
    try:
        edit(tmp_path / "file", add)
    finally:
        os.umask(before)
    assert mode(tmp_path / "file") == 0o600
    assert (tmp_path / "file").read_bytes() == "더\r\n".encode()


@pytest.mark.parametrize("wanted", [0o600, 0o644, 0o440])
def test_mode_and_owner_stay(tmp_path: Path, wanted: int) -> None:
    file = tmp_path / "file"
    file.write_text("one\n")
    if os.geteuid() == 0:
        os.chown(file, 1234, 4321)
    file.chmod(wanted)
    before = file.stat()
    edit(file, add)
    after = file.stat()
    assert (after.st_mode, after.st_uid, after.st_gid) == (
        before.st_mode,
        before.st_uid,
        before.st_gid,
    )
    # A new inode: a process that has the old file open can still read all of it.
    assert after.st_ino != before.st_ino
    assert list(tmp_path.iterdir()) == [file]


def test_the_file_behind_a_link_is_replaced(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    file, link = tmp_path / "real/file", tmp_path / "link"
    file.write_text("one\n")
    link.symlink_to(file)
    edit(link, add)
    assert link.is_symlink()
    assert file.read_bytes().decode() == "one\n더\r\n"


def test_a_change_that_fails_leaves_everything_as_it_was(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_text("one\n")

    def fail(_: str) -> str:
        raise SetupError("no")

    with pytest.raises(SetupError, match=r"^no$"):
        edit(file, fail)
    with pytest.raises(UnicodeEncodeError):
        edit(file, lambda _: "\udcff")
    assert file.read_text() == "one\n"
    assert list(tmp_path.iterdir()) == [file]


@pytest.mark.parametrize(
    ("name", "fault"),
    [
        (".", "it is not a regular file"),
        ("/dev/full", "it is not a regular file"),
        ("fifo", "it is not a regular file"),
        ("none/file", "No such file or directory"),
        ("text/file", "Not a directory"),
        ("utf16", "is not text in UTF-8"),
    ],
)
def test_a_fault_is_one_line(tmp_path: Path, name: str, fault: str) -> None:
    os.mkfifo(tmp_path / "fifo")
    (tmp_path / "text").write_text("text")
    (tmp_path / "utf16").write_text("text", encoding="utf-16")
    with pytest.raises(SetupError, match=fault) as refusal:
        edit(tmp_path / name, add)
    assert str(refusal.value).startswith(str(tmp_path / name))
    assert "\n" not in str(refusal.value)


def test_what_does_not_exist_is_empty(tmp_path: Path) -> None:
    assert look(tmp_path / "none") == ""


def test_several_at_once_lose_nothing(tmp_path: Path) -> None:
    file = tmp_path / "file"
    running = [subprocess.Popen([sys.executable, "-c", APPEND, str(file), word]) for word in "abc"]
    assert [process.wait() for process in running] == [0, 0, 0]
    assert sorted(file.read_text().split()) == sorted("abc" * 20)
