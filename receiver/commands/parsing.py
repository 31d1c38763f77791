"""Parses command lines, and reports mistakes in one line with a suggestion."""

from __future__ import annotations

from argparse import (
    Action,
    ArgumentError,
    ArgumentParser,
    HelpFormatter,
    Namespace,
    _SubParsersAction,
)
from collections.abc import Sequence
from typing import Any, Final, NoReturn

from receiver.config.suggestions import closest, did_you_mean
from receiver.printable import printable

WORDS: Final = {
    "expected one argument": "needs a value",
    "ignored explicit argument": "takes no value, so not",
}
"""Wordings of argparse, and their replacements."""


class ManualFormatter(HelpFormatter):
    """Fills paragraphs, except for those with indented lines, such as examples."""

    def __init__(self, prog: str, **options: Any) -> None:  # noqa: ANN401  argparse's
        super().__init__(prog, **options)
        # The width of the longest command: argparse ignores the indentation of commands.
        self._action_max_length = len("    completion")

    def _fill_text(self, text: str, width: int, indent: str) -> str:
        fill = super()._fill_text
        return "\n\n".join(
            paragraph if "\n  " in paragraph else fill(paragraph, width, indent)
            for paragraph in text.strip("\n").split("\n\n")
        )


class Commands(_SubParsersAction):  # type: ignore[type-arg]  # generic for type checkers only
    """Commands whose description defaults to their line in the list."""

    def add_parser(self, name: str, **options: Any) -> Any:  # noqa: ANN401  argparse's
        """Add a command."""
        return super().add_parser(name, **{"description": options.get("help"), **options})


class Parser(ArgumentParser):
    """Parses a command line, with the same messages on every version of Python.

    A mistake ends the process with exit code 2 and one line on standard error.
    """

    def __init__(self, *arguments: Any, **options: Any) -> None:  # noqa: ANN401  argparse's
        # A flag is never abbreviated: --table would be --tables-file for a command without it.
        ours = {"formatter_class": ManualFormatter, "allow_abbrev": False}
        super().__init__(*arguments, **{**ours, **options})
        self.register("action", "parsers", Commands)
        # Python 3.14 colours the help, and makes its own suggestions.
        self.color = False
        self.suggest_on_error = False

    def parse_known_args(  # type: ignore[override]  # we have no namespace of our own
        self, args: Sequence[str] | None = None, namespace: Namespace | None = None
    ) -> tuple[Namespace, list[str]]:
        """Parse arguments; unknown ones are an error of the command's own parser."""
        parsed, rest = super().parse_known_args(args, namespace)
        if rest:
            self.error(self._explain(rest))
        return parsed, rest

    def _explain(self, rest: Sequence[str]) -> str:
        # Only the name: the value of a misspelt flag may be a secret.
        names = [word.partition("=")[0] for word in rest if word.startswith("-")]
        if names:
            # Without the dashes, which all flags have in common.
            known = {flag.lstrip("-"): flag for flag in self._option_string_actions}
            found = closest(names[0].lstrip("-"), known)
            meant = f" (did you mean {known[found]}?)" if found else ""
            return f"there is no flag {names[0]}{meant}"
        return (
            f"{rest[0]!r} is one argument too many; a command comes before all flags, and a value "
            "with spaces needs quotes"
        )

    def _check_value(self, action: Action, value: Any) -> None:  # noqa: ANN401  argparse's
        if action.choices is None or value in action.choices:
            return
        known = [str(choice) for choice in action.choices]
        if isinstance(action, _SubParsersAction):
            kind = str(action.metavar).lower()
            self.error(f"there is no {kind} {value!r}{did_you_mean(value, known)}")
        words = f"{', '.join(known[:-1])} or {known[-1]}"
        raise ArgumentError(action, f"must be {words}, not {value!r}{did_you_mean(value, known)}")

    def error(self, message: str) -> NoReturn:
        """End with a line that states the mistake and where to read more."""
        text = message.removeprefix("argument ")
        for theirs, ours in WORDS.items():
            text = text.replace(theirs, ours)
        self.fail(f"{text}; `{self.prog} --help` shows more")

    def fail(self, message: str) -> NoReturn:
        """End with a line that states the mistake."""
        self.exit(2, f"{self.prog.partition(' ')[0]}: {printable(message)}\n")
