"""`receiver credential`: what it makes lets a sender in, and it shows no password."""

from __future__ import annotations

import asyncio
import getpass
import io
from argparse import ArgumentParser
from pathlib import Path

import pytest

from receiver.commands import credential
from receiver.errors import SetupError
from tests.conftest import MakeSettings
from tests.integration.test_guard import NO_DATABASE, basic, status
from tests.receivers import receiving


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


async def make(make_settings: MakeSettings, *words: str) -> None:
    parser = ArgumentParser()
    credential.add_arguments(parser)
    assert await credential.run(make_settings(), parser.parse_args(words)) == 0


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
    ("typed", "said"), [("", "is empty"), ("\n", "is empty"), ("h" * 73, "has 73 bytes")]
)
async def test_what_is_no_password(
    make_settings: MakeSettings, monkeypatch: pytest.MonkeyPatch, typed: str, said: str
) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO(typed))
    with pytest.raises(SetupError, match=said):
        await make(make_settings, "user", "prometheus")


@pytest.mark.parametrize("name", ["", "a:b", "a\nb"])
async def test_what_is_no_name(
    make_settings: MakeSettings, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    with pytest.raises(SystemExit):
        await make(make_settings, "user", name)
    assert "must be printable text without a colon" in capsys.readouterr().err
