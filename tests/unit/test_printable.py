"""Printed text cannot control the terminal, is grammatical, and can be printed in any encoding."""

from __future__ import annotations

import io
import json
import subprocess
import sys
from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from receiver.errors import BadRequestError
from receiver.http.answers import acknowledgement, refusal
from receiver.printable import counted, is_unicode, printable, to_json
from receiver.rows.model import Faults, WriteRequest

BAD = ["\x00", "\x07", "\x08", "\t", "\n", "\r", "\x1b", "\x7f", "\x85", "\x9b", "\u200e", "\u200f"]
BAD += [chr(code) for code in (*range(0x202A, 0x202F), *range(0x2066, 0x206A), 0x2028, 0x2029)]
BAD += ["\u061c", "\u200b", "\ufeff", "\ud800", "\U000e0041"]


@pytest.mark.parametrize(
    ("number", "text"), [(0, "0 rows"), (1, "1 row"), (1.0, "1 row"), (2.4, "2 rows")]
)
def test_a_number_agrees_with_its_noun(number: float, text: str) -> None:
    assert counted(number, "row") == text


@pytest.mark.parametrize("char", BAD)
def test_what_would_do_something_is_escaped(char: str) -> None:
    shown = printable(f"a{char}b")
    assert shown.isprintable()
    assert shown.isascii()
    assert json.loads(to_json(f"a{char}b")) == f"a{char}b"
    assert char not in to_json([char], indent=2).replace("\n", "")


@pytest.mark.parametrize(
    "text", ["", "a b", "한국어 오류", "日本　語", "a\xa0b", "é → ✓ 👩", "\\x1b"]
)
def test_what_is_only_seen_stays_as_it_is(text: str) -> None:
    assert printable(text) == text
    assert text in json.loads(to_json(text))


@given(st.text())
def test_nothing_is_left_that_a_terminal_would_obey(text: str) -> None:
    shown = printable(text)
    assert not any(char in shown for char in BAD)
    assert len(shown) >= len(text)


@given(st.recursive(st.text() | st.integers(), lambda inner: st.dictionaries(st.text(), inner)))
def test_json_holds_what_was_written(value: object) -> None:
    for ascii_only in (False, True):
        text = to_json(value, ascii_only=ascii_only)
        assert json.loads(text) == value
        assert not any(char in text for char in BAD)
        assert text.isascii() or not ascii_only


def test_no_answer_has_a_line_or_a_command_of_what_was_sent() -> None:
    faults = Faults(1, 2, ["series 0 {a\n=1}: no __name__\x1b[2J"])
    for response in (
        acknowledgement(WriteRequest([], 0, 0, 0, 0, faults), "id"),
        refusal(BadRequestError("a\nb\x1b[2J"), timedelta(), "id"),
    ):
        assert response.text is not None
        first, *others = response.text.splitlines()
        assert "(request id)" in first
        assert len(others) == response.text.count("series 0")
        assert "\x1b" not in response.text


def test_which_streams_take_every_character() -> None:
    assert is_unicode(io.StringIO())
    assert is_unicode(io.TextIOWrapper(io.BytesIO(), "utf-8"))
    assert not is_unicode(io.TextIOWrapper(io.BytesIO(), "latin-1"))


@pytest.mark.parametrize("encoding", ["ascii:strict", "latin-1:strict", "euc_kr", "utf-8:strict"])
def test_no_encoding_fails_on_a_character(encoding: str) -> None:
    code = (
        "import sys; from receiver.printable import *; replace_what_cannot_be_written();"
        r"text = '가é→\ud800'; print(text); print(text, file=sys.stderr)"
    )
    ended = subprocess.run(
        [sys.executable, "-c", code],
        env={"PYTHONIOENCODING": encoding},
        capture_output=True,
        check=False,
    )
    assert ended.returncode == 0, ended.stderr
    assert ended.stdout.count(b"\n") == ended.stderr.count(b"\n") == 1
