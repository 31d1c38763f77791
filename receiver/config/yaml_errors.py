"""Explains in plain words why a text is not YAML."""

from __future__ import annotations

from typing import Final, NamedTuple

import yaml


class Reason(NamedTuple):
    """What a person has to know about a kind of error."""

    problem: str
    """What PyYAML's description of the error contains."""
    text: str
    """The description to show instead; `{line}` is where the part with the error begins."""
    at_start: bool = False
    """Whether the mistake is where the part begins, and not where PyYAML noticed it."""


REASONS: Final = (
    Reason("found character '\\t'", "has a tab: use spaces"),
    Reason("cannot start any token", "a value that begins with a character such as @ needs quotes"),
    Reason(
        "expected <block end>",
        "is indented differently from the lines that it belongs to: indent them all alike",
    ),
    Reason(
        "mapping values are not allowed",
        "cannot have a `:` here: check the indentation, and whether the line before lacks a `:`, "
        "or quote the value",
    ),
    Reason("could not find expected ':'", "line {line} lacks a `:` after its name"),
    Reason("expected ',' or", "a comma is missing, or the bracket in line {line} is not closed"),
    Reason("expected the node content", "a value or a closing bracket is missing"),
    Reason("sequence entries are not allowed", "a list that begins with `-` needs its own line"),
    Reason("found unexpected end of stream", "a quotation mark is not closed", at_start=True),
    Reason(
        "found unknown escape character",
        "`\\` has a meaning of its own within double quotes: use single quotes",
    ),
    Reason("expected a single document", "a second document begins: remove the line `---`"),
)


def line_of(error: yaml.MarkedYAMLError) -> int:
    """Return the line of the mistake; 1 if it is not known."""
    reason = find_reason(error)
    marks = [error.problem_mark, error.context_mark]
    if reason and reason.at_start:
        marks.reverse()
    return next((mark.line + 1 for mark in marks if mark), 1)


def explain(error: yaml.MarkedYAMLError) -> str | None:
    """Describe the mistake without showing any content; None if its kind has no description."""
    reason = find_reason(error)
    start = error.context_mark or error.problem_mark
    return reason and reason.text.format(line=start.line + 1 if start else 1)


def find_reason(error: yaml.MarkedYAMLError) -> Reason | None:
    """Find the kind of an error."""
    words = f"{error.context}, {error.problem}"
    return next((reason for reason in REASONS if reason.problem in words), None)
