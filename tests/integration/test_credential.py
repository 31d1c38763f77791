"""`receiver credential` creates credentials that work, and shows no password."""

from __future__ import annotations

import asyncio
import getpass
import io
import os
import pty
import subprocess
import sys
from argparse import ArgumentParser
from contextlib import suppress
from functools import partial
from pathlib import Path

import bcrypt
import pytest

from receiver.commands import credential
from receiver.errors import SetupError
from receiver.security.credentials import parse_text
from tests.conftest import MakeSettings
from tests.integration.test_authentication import NO_DATABASE, ROUNDS, basic, status
from tests.receivers import receiving


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture
def weak_hashes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bcrypt, "gensalt", partial(bcrypt.gensalt, ROUNDS))


async def make(make_settings: MakeSettings, *words: str) -> None:
    parser = ArgumentParser()
    credential.add_arguments(parser)
    assert await credential.run(make_settings(), parser.parse_args(words)) == 0


@pytest.mark.usefixtures("weak_hashes")
@pytest.mark.parametrize("word", ["hunter2", "h", "비밀번호", "with space ", "h" * 72])
async def test_a_password_from_standard_input(
    make_settings: MakeSettings,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    word: str,
) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO(f"{word}\n"))
    await make(make_settings, "user", "on")
    shown = capsys.readouterr()
    assert shown.err == ""
    if len(word) > 1:
        assert word not in shown.out
    await is_let_in(make_settings, shown.out, basic("on", word))


async def test_a_token_is_shown_apart_from_its_digest(
    make_settings: MakeSettings, capsys: pytest.CaptureFixture[str]
) -> None:
    await make(make_settings, "token")
    shown = capsys.readouterr()
    token = shown.err.split()[-1]
    assert len(token) == 64
    assert token not in shown.out
    await is_let_in(make_settings, shown.out, f"Bearer {token}")


@pytest.mark.usefixtures("weak_hashes")
@pytest.mark.parametrize("before", ["", "# ours\n"])
async def test_entries_are_appended_to_a_file(
    make_settings: MakeSettings,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    before: str,
) -> None:
    file = tmp_path / "made.yml"
    if before:
        file.write_text(before)
    let_in = []
    for name, word in (("prometheus", "hunter2"), ("이름", "비밀번호")):
        monkeypatch.setattr("sys.stdin", io.StringIO(f"{word}\n"))
        await make(make_settings, "user", name, "--append", str(file))
        let_in.append(basic(name, word))
    for _ in range(2):
        await make(make_settings, "token", "--append", str(file))
        let_in.append(f"Bearer {capsys.readouterr().err.split()[-1]}")
    assert capsys.readouterr().out == ""
    text = file.read_text()
    assert text.startswith(before)
    assert text.count("basic_auth_users:") == text.count("bearer_tokens:") == 1
    for authorization in let_in:
        await is_let_in(make_settings, text, authorization)


async def test_a_name_that_is_there_is_refused_before_the_password_is_asked_for(
    make_settings: MakeSettings, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    file = tmp_path / "made.yml"
    monkeypatch.setattr("sys.stdin", io.StringIO("hunter2\n"))
    await make(make_settings, "user", "a", "--append", str(file))
    text = file.read_text()
    monkeypatch.setattr("sys.stdin", Terminal())
    monkeypatch.setattr(getpass, "getpass", lambda _: pytest.fail("it was asked for"))
    with pytest.raises(SetupError, match=f"^{file}: has a user 'a' already"):
        await make(make_settings, "user", "a", "--append", str(file))
    assert file.read_text() == text


async def is_let_in(make_settings: MakeSettings, entry: str, authorization: str) -> None:
    file = Path("credentials.yml")
    await asyncio.to_thread(file.write_text, entry)
    settings = make_settings(database_url=NO_DATABASE, credentials_file=file)
    async with receiving(settings, wait=False) as receiver:
        assert await status(receiver, authorization) == 204
        assert await status(receiver, authorization + "x") == 401


@pytest.mark.parametrize("answers", [["hunter2", "hunter2"], ["hunter2", "hunter3"]])
async def test_a_password_is_asked_for_twice_without_echo(
    make_settings: MakeSettings,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    answers: list[str],
) -> None:
    same = len(set(answers)) == 1
    monkeypatch.setattr("sys.stdin", Terminal())
    monkeypatch.setattr(getpass, "getpass", lambda _: answers.pop(0))
    if same:
        await make(make_settings, "user", "prometheus")
        assert "prometheus: $2b$12$" in capsys.readouterr().out
    else:
        with pytest.raises(SetupError, match="the two passwords differ"):
            await make(make_settings, "user", "prometheus")


@pytest.mark.parametrize(
    ("typed", "said"),
    [
        ("", "is empty"),
        ("\n", "is empty"),
        ("\ufeff\r\n", "is empty"),
        ("h" * 73, "has 73 bytes"),
        ("h\0u\0", "has a NUL byte"),
    ],
)
async def test_what_is_no_password(
    make_settings: MakeSettings, monkeypatch: pytest.MonkeyPatch, typed: str, said: str
) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO(typed))
    with pytest.raises(SetupError, match=said):
        await make(make_settings, "user", "prometheus")


@pytest.mark.parametrize("locale", ["C", "C.UTF-8", "en_US.ISO-8859-1"])
def test_a_password_is_read_as_it_is_sent(tmp_path: Path, locale: str) -> None:
    """As UTF-8, whatever the locale, without a byte order mark."""
    file = tmp_path / "made.yml"
    command = [sys.executable, "-m", "receiver", "credential", "user", "a", "--append", str(file)]
    encoding = {"PYTHONIOENCODING": "latin-1"} if "8859" in locale else {}
    subprocess.run(
        command,
        input="\ufeff비밀번호\r\n".encode(),
        env={**os.environ, **encoding, "LC_ALL": locale},
        check=True,
        capture_output=True,
    )
    hashed = parse_text(file.read_text(), "made.yml").basic_auth_users["a"]
    assert bcrypt.checkpw("비밀번호".encode(), hashed.encode())


def test_a_closed_standard_input_is_a_fault_in_one_line() -> None:
    command = f"exec {sys.executable} -m receiver credential user a <&-"
    done = subprocess.run(["sh", "-c", command], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.splitlines() == [
        "receiver: standard input is closed: no password can be read from it"
    ]


AT_TERMINAL = """
import fcntl, os, sys, termios
os.setsid()
fcntl.ioctl(0, termios.TIOCSCTTY, 0)
os.execv(sys.argv[1], sys.argv[1:])
"""


def test_nothing_is_echoed_at_a_terminal(tmp_path: Path) -> None:
    file = tmp_path / "made.yml"
    command = [sys.executable, "-m", "receiver", "credential", "user", "a", "--append", str(file)]
    terminal, theirs = pty.openpty()
    with subprocess.Popen(
        [sys.executable, "-c", AT_TERMINAL, *command], stdin=theirs, stdout=theirs, stderr=theirs
    ) as process:
        os.close(theirs)
        shown = b""
        for prompt in (b"Password: ", b"Again: "):
            while not shown.endswith(prompt):
                shown += os.read(terminal, 1024)
            os.write(terminal, b"hunter2\n")
        with suppress(OSError):  # the other end is closed
            while more := os.read(terminal, 1024):
                shown += more
    os.close(terminal)
    assert process.returncode == 0
    assert b"hunter2" not in shown
    assert b"added to" in shown
    assert "a: $2b$" in file.read_text()


@pytest.mark.parametrize("name", ["", "a:b", "a\nb"])
async def test_what_is_no_name(
    make_settings: MakeSettings, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    with pytest.raises(SystemExit):
        await make(make_settings, "user", name)
    assert "must be printable text without a colon" in capsys.readouterr().err
