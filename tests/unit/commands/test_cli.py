"""The command line: commands, flags, and error messages."""

from __future__ import annotations

import re
import subprocess
import sys
from argparse import Namespace
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import receiver.config.settings
from receiver import __version__
from receiver.commands import running
from receiver.commands.cli import COMMANDS, build_parser, load_command, main
from receiver.config.settings import Settings
from receiver.errors import DatabaseUnavailableError, SettingsError
from tests.conftest import MakeSettings

HOST = "must be HOST:PORT, such as 127.0.0.1:9201, [::1]:9201 or, for all addresses, 0.0.0.0:9201"
CONTROL = "must be one line, without control characters"


@pytest.fixture(autouse=True)
def alone(make_settings: MakeSettings, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Nothing around the test changes settings, and the test does not change logging."""
    del make_settings
    monkeypatch.setattr(receiver.config.settings, "SECRETS_DIR", tmp_path / "no secrets")
    monkeypatch.setattr(running, "set_up_logging", lambda *_: None)


class Calls(list[tuple[str, Settings]]):
    """Replaces the commands: records which one is run, and exits with `code`."""

    code = 0
    error: BaseException | None = None


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> Calls:
    found = Calls()

    async def run(settings: Settings, arguments: Namespace) -> int:
        found.append((arguments.command, settings))
        if found.error is not None:
            raise found.error
        return found.code

    for name in COMMANDS:
        monkeypatch.setattr(load_command(name), "run", run)
    return found


def exit_code(*words: str) -> object:
    with pytest.raises(SystemExit) as ended:
        main(words)
    return ended.value.code


@pytest.mark.parametrize(
    ("words", "listen"),
    [
        ((), "127.0.0.1:9201"),
        (("serve",), "127.0.0.1:9201"),
        (("--listen", "h:1"), "h:1"),
        (("--listen=h:1",), "h:1"),
        (("serve", "--listen", "h:1"), "h:1"),
    ],
)
def test_serve_is_the_default(words: tuple[str, ...], listen: str, calls: Calls) -> None:
    assert exit_code(*words) == 0
    ((command, settings),) = calls
    assert command == "serve"
    assert settings.listen == listen


def test_the_words_come_from_the_command_line(
    calls: Calls, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "argv", ["receiver", "--listen", "h:1"])
    with pytest.raises(SystemExit):
        main()
    ((command, settings),) = calls
    assert (command, settings.listen) == ("serve", "h:1")


def test_the_contract_of_commands() -> None:
    parser, _ = build_parser("migrate")
    assert {"serve", "migrate", "demo", "capture", "replay", "logs", "codes"} <= COMMANDS.keys()
    assert parser.prog == "receiver"
    assert parser.parse_args(["migrate"]).command == "migrate"


@pytest.mark.parametrize("code", [0, 1, 3])
def test_a_command_ends_the_process_with_its_code(code: int, calls: Calls) -> None:
    calls.code = code
    assert exit_code("migrate") == code
    assert [command for command, _ in calls] == ["migrate"]


def test_a_failure_is_one_line(calls: Calls) -> None:
    calls.error = DatabaseUnavailableError("no database answers")
    assert exit_code("migrate") == "receiver: no database answers"


def test_an_interrupted_command_says_so(calls: Calls) -> None:
    calls.error = KeyboardInterrupt()
    assert exit_code("migrate") == 130


@pytest.mark.parametrize(
    ("words", "fault"),
    [
        (["unknown"], "there is no command 'unknown'; `receiver --help` shows more"),
        (
            ["serv"],
            "there is no command 'serv' (did you mean serve?); `receiver --help` shows more",
        ),
        (["\x1b[31m"], r"there is no command '\x1b[31m'; `receiver --help` shows more"),
        ([""], "there is no command ''; `receiver --help` shows more"),
        # An abbreviation could be another flag than the one meant, such as --tables-file.
        (
            ["comments", "list", "--tabl", "x"],
            "there is no flag --tabl (did you mean --table?); "
            "`receiver comments list --help` shows more",
        ),
        (["--unknown"], "there is no flag --unknown; `receiver serve --help` shows more"),
        (
            ["serve", "--databse-url=hunter2"],
            "there is no flag --databse-url (did you mean --database-url?); "
            "`receiver serve --help` shows more",
        ),
        (
            ["--bearer-tokn", "hunter2"],
            "there is no flag --bearer-tokn (did you mean --bearer-token?); "
            "`receiver serve --help` shows more",
        ),
        (["serve", "--listen"], "--listen: needs a value; `receiver serve --help` shows more"),
        (
            ["--migrate-on-start=x"],
            "--migrate-on-start/--no-migrate-on-start: takes no value, so not 'x'; "
            "`receiver serve --help` shows more",
        ),
        (
            ["--log-level=debug", "logs"],
            "'logs' is one argument too many; a command comes before all flags, and a value "
            "with spaces needs quotes; `receiver serve --help` shows more",
        ),
        (
            ["codes", "lst"],
            "there is no action 'lst' (did you mean list?); `receiver codes --help` shows more",
        ),
        (
            ["codes", "list", "--listn", "x"],
            "there is no flag --listn (did you mean --listen?); "
            "`receiver codes list --help` shows more",
        ),
        (
            ["shifts", "remove", "\udcb0\udca1"],
            r"NAME: must be text in UTF-8, not '\udcb0\udca1'; "
            "`receiver shifts remove --help` shows more",
        ),
        (
            ["export", "--match", "\udcb0\udca1=1"],
            r"--match: must be text in UTF-8, not '\udcb0\udca1=1'; "
            "`receiver export --help` shows more",
        ),
        (
            ["logs", "--source", "\n"],
            "--source: must not be empty; `receiver logs --help` shows more",
        ),
        (
            ["comments", "remove", "", "1h"],
            "SOURCE: must not be empty; `receiver comments remove --help` shows more",
        ),
        (
            ["report", "--month", "2026-13"],
            "--month: must be a date such as 2026-11-28, or last, not '2026-13'; "
            "`receiver report --help` shows more",
        ),
        (
            ["logs", "--limit", "5"],
            "there is no flag --limit; `receiver logs --help` shows more",
        ),
        (
            ["completion", "fish"],
            "shell: must be bash or zsh, not 'fish'; `receiver completion --help` shows more",
        ),
        (["--listen", "x"], f"--listen=x: {HOST}"),
        (["codes", "list", "--listen=\x1b"], rf"--listen='\x1b': {CONTROL}"),
        (
            ["--log-level", "inof"],
            "--log-level=inof: must be debug, info, warning or error (did you mean info?)",
        ),
        (["--database-url="], "--database-url: needs a value; `receiver --help` shows more"),
        (["--data-dir", "  "], "--data-dir=  : must not be empty: leave it out instead"),
    ],
)
def test_what_is_no_command_line(
    words: list[str], fault: str, calls: Calls, capsys: pytest.CaptureFixture[str]
) -> None:
    assert exit_code(*words) == 2
    assert capsys.readouterr() == ("", f"receiver: {fault}\n")
    assert not calls


def test_what_is_wrong_elsewhere_is_no_fault_of_the_command_line(
    calls: Calls, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RECEIVER_LISTEN", "x")
    assert exit_code("--workers=2") == f"receiver: RECEIVER_LISTEN=x: {HOST}"
    assert not calls


def test_a_later_fault_names_what_was_given_as_flag_by_its_flag(calls: Calls) -> None:
    calls.error = SettingsError("RECEIVER_LISTEN=h:1: in use; RECEIVER_WORKERS=1: odd")
    fault = "receiver: --listen=h:1: in use; RECEIVER_WORKERS=1: odd"
    assert exit_code("--listen=h:1") == fault


def test_what_a_fault_quotes_does_nothing_to_a_terminal(calls: Calls) -> None:
    calls.error = DatabaseUnavailableError("no\n\x1b[2J\u202edatabase")
    assert exit_code("migrate") == r"receiver: no\n\x1b[2J\u202edatabase"


def test_what_has_no_effect_is_logged_at_start(
    calls: Calls, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("RECEIVER_LISTN", "h:1")
    Path(".env").write_text("RECEIVER_WORKRS=2\n")
    assert exit_code() == 0
    assert exit_code("doctor") == 0
    assert caplog.messages == [
        "RECEIVER_LISTN is not a setting: did you mean RECEIVER_LISTEN?",
        "RECEIVER_WORKRS (.env line 1) is not a setting: did you mean RECEIVER_WORKERS?",
    ]
    assert len(calls) == 2


def test_the_version(calls: Calls, capsys: pytest.CaptureFixture[str]) -> None:
    assert exit_code("--version") == 0
    assert capsys.readouterr().out == f"receiver {__version__}\n"
    assert not calls


@pytest.mark.parametrize("word", ["-h", "--help"])
def test_help_names_every_command(
    word: str, calls: Calls, capsys: pytest.CaptureFixture[str]
) -> None:
    assert exit_code(word) == 0
    shown = capsys.readouterr().out
    for name in COMMANDS:
        assert re.search(rf"^    {name}\s", shown, re.MULTILINE)
    assert not calls


@pytest.mark.parametrize("command", COMMANDS)
def test_help_of_a_command(command: str, calls: Calls, capsys: pytest.CaptureFixture[str]) -> None:
    assert exit_code(command, "--help") == 0
    shown = capsys.readouterr().out
    assert shown.startswith(f"usage: receiver {command} ")
    assert "[SETTING ...]" in shown
    assert not calls


def test_help_does_not_show_secrets(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RECEIVER_DATABASE_URL", "postgresql://user:hunter2@db/logs")
    assert exit_code("serve", "--help") == 0
    assert "hunter2" not in capsys.readouterr().out


@pytest.mark.parametrize(
    "words",
    [
        ("--bearer-token=hunter2",),
        ("serve", "--bearer-token", "hunter2"),
        ("codes", "list", "--bearer-token", "hunter2"),
        ("--database-password", "hunter2"),
    ],
)
def test_no_secret_is_taken_from_the_command_line(
    words: tuple[str, ...], calls: Calls, capsys: pytest.CaptureFixture[str]
) -> None:
    assert exit_code(*words) == 2
    shown = capsys.readouterr()
    assert "`ps` shows everybody a secret" in shown.err
    assert "hunter2" not in shown.err + shown.out
    assert not calls


@pytest.mark.parametrize(
    ("url", "warned"),
    [
        ("postgresql://user@db/logs", False),
        ("postgresql://user:hunter2@db/logs", True),
        ("postgresql://db/logs?password=hunter2", True),
    ],
)
def test_a_password_within_a_url_is_taken_with_a_warning(
    url: str, warned: bool, calls: Calls, caplog: pytest.LogCaptureFixture
) -> None:
    assert exit_code("--database-url", url) == 0
    assert calls
    shown = caplog.text
    assert ("`ps` shows everybody a secret" in shown) == warned
    assert "hunter2" not in shown


def test_a_wrong_setting_ends_the_program_with_one_line(tmp_path: Path) -> None:
    ended = subprocess.run(
        [sys.executable, "-m", "receiver", "serve", "--listen", "nonsense"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert ended.returncode == 2
    assert ended.stdout == ""
    (line,) = ended.stderr.splitlines()
    assert line.startswith("receiver: --listen=nonsense: must be HOST:PORT")


WORDS = st.sampled_from(
    [
        *COMMANDS,
        *(f"--{name.replace('_', '-')}" for name in Settings.model_fields),
        *("add", "list", "rename", "user", "token", "-n", "-o", "--start", "--match", "--to"),
        *("--prometheus", "--duration", "--from-url", "--format", "--", "-", "--help=x", "-1", ""),
        *("http://[", "http://x:y", "\udcff", "\x1b[2J", "9" * 5000, "\u202e", "0", "5s", "x.csv"),
    ]
)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(st.lists(WORDS | st.text(st.characters(exclude_characters="\0"), max_size=8), max_size=5))
def test_any_command_line_is_run_or_refused_in_one_line(
    calls: Calls, capsys: pytest.CaptureFixture[str], words: list[str]
) -> None:
    code = exit_code(*words)
    shown = capsys.readouterr()
    if code == 0:
        return
    line = code if isinstance(code, str) else shown.err.removesuffix("\n")
    assert code == 2 or isinstance(code, str)
    assert line.startswith("receiver: ")
    assert line.isprintable()
    assert shown.out == ""
    del calls
