"""The series that a table matches by the values of their labels."""

from __future__ import annotations

import pytest

from receiver.rows.tables import compile_match


@pytest.mark.parametrize(
    ("expression", "value", "matches"),
    [
        ("a", "a", True),
        ("a", "ab", False),
        ("a|b", "b", True),
        ("a|b", "ab", False),
        ("a.b", "a\nb", True),
        (".*", "", True),
        (".+", "", False),
        ("", "", True),
        ("^a$", "a", True),
        ("a$", "a\n", False),
        ("(?i)A", "a", True),
        (r"\pL+", "온도", True),
        ("온.", "온도", True),
    ],
)
def test_an_expression_matches_the_whole_value(expression: str, value: str, matches: bool) -> None:
    assert compile_match({"l": expression})({"l": value, "other": "x"}) is matches


def test_a_label_that_is_not_there_is_empty() -> None:
    assert compile_match({"l": ""})({"other": "x"})
    assert not compile_match({"l": ".+"})({})


def test_all_expressions_must_match() -> None:
    matches = compile_match({"a": "1", "b": "2"})
    assert matches({"a": "1", "b": "2"})
    assert not matches({"a": "1", "b": "1"})


@pytest.mark.parametrize("expression", ["[", "a++", r"\Z", "(?=a)", "(", "(a{1000}){1000}"])
def test_what_is_not_an_expression(expression: str, capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(ValueError, match=r"^must be a regular expression \(RE2\): "):
        compile_match({"l": expression})
    assert capfd.readouterr() == ("", "")
