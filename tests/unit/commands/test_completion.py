"""The completion scripts of the shells; a real bash runs its own."""

from __future__ import annotations

import subprocess
from argparse import Namespace

import pytest

from receiver.commands import completion
from receiver.commands.cli import COMMANDS
from receiver.config.settings import Settings
from tests.conftest import MakeSettings
from tests.programs import require_program

COMPLETE = """
COMP_WORDS=({words}) COMP_CWORD={place}
_shtab_receiver
printf '%s\\n' "${{COMPREPLY[@]}}"
"""


async def script(shell: str, settings: Settings, capsys: pytest.CaptureFixture[str]) -> str:
    assert await completion.run(settings, Namespace(shell=shell)) == 0
    return capsys.readouterr().out


def run_bash(text: str) -> str:
    command = [require_program("bash"), "-c", text]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("receiver ''", set(COMMANDS)),
        ("receiver ba", {"backfill"}),
        ("receiver codes ''", {"list", "add", "rename", "class"}),
        ("receiver export --for", {"--format"}),
        ("receiver export --format ''", {"csv", "parquet"}),
        ("receiver logs --writ", set()),
        ("receiver --listen", {"--listen"}),
        ("receiver --log-le", {"--log-level"}),
        ("receiver --log-level ''", {"debug", "info", "warning", "error"}),
        ("receiver --log-level w", {"warning"}),
        ("receiver serve --ocr-unit ''", {"seconds", "milliseconds"}),
        ("receiver demo --sender b", {"builtin"}),
        ("receiver --listen h:1 --log-format ''", {"text", "json"}),
    ],
)
async def test_bash_completes(
    words: str, expected: set[str], make_settings: MakeSettings, capsys: pytest.CaptureFixture[str]
) -> None:
    text = await script("bash", make_settings(), capsys)
    ask = COMPLETE.format(words=words, place=len(words.split()) - 1)
    assert set(run_bash(f"{text}\n{ask}").split()) == expected


async def test_bash_completes_files_where_there_are_files(
    make_settings: MakeSettings, capsys: pytest.CaptureFixture[str]
) -> None:
    text = await script("bash", make_settings(), capsys)
    assert "_shtab_receiver_export__o_COMPGEN=_shtab_compgen_files" in text
    assert "_shtab_receiver_replay_pos_0_COMPGEN=_shtab_compgen_files" in text
    assert "_shtab_receiver_capture_pos_0_COMPGEN=_shtab_compgen_dirs" in text
    assert "_shtab_receiver_serve___data_dir_COMPGEN=_shtab_compgen_dirs" in text
    assert "_shtab_receiver___credentials_file_COMPGEN=_shtab_compgen_files" in text


async def test_zsh_is_given_the_commands_too(
    make_settings: MakeSettings, capsys: pytest.CaptureFixture[str]
) -> None:
    text = await script("zsh", make_settings(), capsys)
    assert text.startswith("#compdef receiver\n")
    assert all(f"\n    {name}:'" in text for name in COMMANDS)
    assert ":(debug info warning error)" in text
    assert ":DIR:_files -/" in text
