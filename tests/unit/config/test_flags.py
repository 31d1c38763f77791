"""Settings as flags of the command line, and the commands that have them."""

from __future__ import annotations

from argparse import ArgumentParser
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from receiver.commands.cli import COMMANDS, build_parser, load_command
from receiver.config.explaining import default_text
from receiver.config.flags import add_settings, placeholder
from receiver.config.sections import SECTIONS, Section
from receiver.config.settings import Settings
from receiver.config.value_types import parse_duration, write_duration, write_size


@pytest.fixture(autouse=True)
def columns(monkeypatch: pytest.MonkeyPatch) -> int:
    """The width of the terminal."""
    monkeypatch.setenv("COLUMNS", "100")
    return 100


def help_of(*shown: Section) -> str:
    parser = ArgumentParser("receiver example")
    add_settings(parser, shown or tuple(Section))
    return parser.format_help()


def test_every_setting_stands_in_one_section() -> None:
    placed = [name for names in SECTIONS.values() for name in names]
    missing = Settings.model_fields.keys() - set(placed)
    assert not missing, f"put {missing} into a section of receiver/config/sections.py"
    assert not set(placed) - Settings.model_fields.keys(), "a section names what is not a setting"
    assert len(placed) == len(set(placed))


def test_help_shows_sections_units_and_defaults_as_one_writes_them(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    shown = help_of()
    assert shown.startswith("usage: receiver example [-h] [SETTING ...]\n")
    for line in (
        "\nServer (settings):\n",
        "--listen HOST:PORT ",
        "--database-url URL ",
        "--data-dir DIR ",
        "--ocr-unit {seconds,milliseconds}\n",
        "--workers N ",
        "--pair-timeout DURATION\n",
        "unpaired. (default: 2h)\n",
        "--retention DURATION|off\n",
        "never. (default: off)\n",
        "--max-body-size SIZE ",
        "compressed. (default: 16MiB)\n",
        "start. (default: true)\n",
    ):
        assert line in shown
    for type_name in ("SecretStr", "timedelta", "ByteSize", "None", "str "):
        assert type_name not in shown


def test_help_shows_the_sections_of_a_command_and_takes_all_settings() -> None:
    shown = help_of(Section.DATABASE)
    assert "--database-url" in shown
    assert "--log-level" not in shown
    assert "serve --help`" in shown
    parser = ArgumentParser()
    flags = add_settings(parser, ())
    parsed = parser.parse_args(["--log-level", "debug"])
    assert Settings.load(flags(parsed_args=parsed)).log_level == "debug"


@pytest.mark.parametrize("command", COMMANDS)
def test_help_is_a_manual(command: str, columns: int) -> None:
    parser, _ = build_parser(command)
    (commands,) = (action for action in parser._actions if action.dest == "command")
    assert isinstance(commands.choices, dict)
    shown = commands.choices[command].format_help()
    assert f"\n    receiver {command}" in shown, "an example"
    assert "Exit codes: 0," in shown
    assert "RECEIVER_PAIR_TIMEOUT" in shown, "where settings come from"
    for action in commands.choices[command]._actions:
        assert action.help, f"{action.dest} is not explained"
    assert max(map(len, shown.splitlines())) <= columns


def all_parsers(parser: ArgumentParser) -> Iterator[ArgumentParser]:
    """Yield a parser and, recursively, the parsers of its commands."""
    yield parser
    for action in parser._actions:
        if isinstance(action.choices, dict):
            for inner in action.choices.values():
                yield from all_parsers(inner)


@pytest.mark.parametrize("columns", [1, 20, 40, 60, 80, 200])
def test_help_fits_every_terminal(columns: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", str(columns))
    parser, _ = build_parser(*COMMANDS)
    for inner in all_parsers(parser):
        shown = inner.format_help()
        assert inner.description, f"{inner.prog} has no text"
        if columns >= 80:
            assert max(map(len, shown.splitlines())) < columns, inner.prog
        for paragraph in shown.split("\n\n"):
            words = [word for line in paragraph.splitlines() for word in line.split()]
            # Only unbreakable text is wider: a word, or a line that is meant to be copied.
            if columns >= 40 and "\n  " not in paragraph and not paragraph.startswith(" "):
                assert max(map(len, paragraph.splitlines())) <= max(columns, *map(len, words))


@pytest.mark.parametrize("command", COMMANDS)
def test_a_command_shows_sections_that_there_are(command: str) -> None:
    assert set(getattr(load_command(command), "SETTINGS", ())) <= set(Section)


@pytest.mark.parametrize(("name", "field"), Settings.model_fields.items())
def test_a_default_that_is_shown_is_the_default(name: str, field: object) -> None:
    del field
    text = default_text(Settings.model_fields[name])
    if text:
        values: dict[str, Any] = {name: text}
        assert getattr(Settings.load(**values), name) == getattr(Settings.load(), name)
    assert placeholder(name, Settings.model_fields[name])


@given(st.integers(0, 10**9))
def test_a_duration_that_is_written_is_read_again(milliseconds: int) -> None:
    duration = timedelta(milliseconds=milliseconds)
    assert parse_duration(write_duration(duration)) == duration


@pytest.mark.parametrize(
    ("duration", "text"),
    [
        (timedelta(), "0s"),
        (timedelta(milliseconds=5), "5ms"),
        (timedelta(seconds=75), "75s"),
        (timedelta(hours=2), "2h"),
        (timedelta(days=7), "7d"),
    ],
)
def test_a_duration_is_written_in_its_largest_unit(duration: timedelta, text: str) -> None:
    assert write_duration(duration) == text


@pytest.mark.parametrize(
    ("size", "text"), [(2**30, "1GiB"), (16 * 2**20, "16MiB"), (1536, "1536"), (2048, "2KiB")]
)
def test_a_size_is_written_in_its_largest_unit(size: int, text: str) -> None:
    assert write_size(size) == text
