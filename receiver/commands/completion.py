r"""Print a script with which a shell completes the commands, flags and files of `receiver`.

Write it to where the shell looks for such scripts, and again after each upgrade:

    receiver completion bash \
        > ~/.local/share/bash-completion/completions/receiver
    receiver completion zsh > ~/.zfunc/_receiver

For zsh, ~/.zshrc has `fpath+=~/.zfunc` before `autoload -Uz compinit && compinit`.
"""

from __future__ import annotations

import sys
from argparse import ArgumentParser, Namespace, _SubParsersAction
from typing import Final

import shtab

from receiver.commands.cli import COMMANDS, build_parser
from receiver.config.explaining import choices
from receiver.config.flags import add_settings
from receiver.config.sections import Section
from receiver.config.settings import Settings

SETTINGS: Final[tuple[Section, ...]] = ()
FILES: Final = {"FILE": shtab.FILE, "DIRECTORY": shtab.DIRECTORY, "DIR": shtab.DIRECTORY}


def add_arguments(parser: ArgumentParser) -> None:
    """Add the shell."""
    parser.add_argument("shell", choices=("bash", "zsh"), help="the shell to complete for")


async def run(settings: Settings, arguments: Namespace) -> int:
    """Print the script."""
    del settings
    parser, _ = build_parser(*COMMANDS)
    # Without a command, `serve` runs, so its flags are valid.
    add_settings(parser)
    complete_values(parser)
    sys.stdout.write(shtab.complete(parser, arguments.shell))
    return 0


def complete_values(parser: ArgumentParser) -> None:
    """Add the completion of values: choices, and files by their placeholder."""
    for action in parser._actions:  # noqa: SLF001  argparse has no other way to its arguments
        if isinstance(action, _SubParsersAction):
            for subparser in action.choices.values():
                complete_values(subparser)
        elif action.nargs != 0 and (words := words_of(action.dest)):
            action.choices = words
        elif action.metavar in FILES:
            action.complete = FILES[str(action.metavar)]  # type: ignore[attr-defined]


def words_of(setting: str) -> tuple[str, ...]:
    """Return the choices of a setting; empty if it has none."""
    field = Settings.model_fields.get(setting)
    return () if field is None else choices(field)
