"""Changes error codes: their names, and what they mean for reports."""

from __future__ import annotations

from typing import Final

from aiohttp import web

from receiver.config.catalogue import all_code_tables
from receiver.config.settings import Settings
from receiver.errors import ErrorCodeError
from receiver.storage.editing.calendar import CLASSES as STATES
from receiver.storage.editing.calendar import classify, declassify
from receiver.storage.editing.codes import CodeTable
from receiver.web.answers import View
from receiver.web.forms import Forms, go_to
from receiver.web.parameters import (
    BadParameterError,
    PageError,
    read_choice,
    read_number,
    read_text,
)

ACTIONS: Final = {"add": CodeTable.add, "rename": CodeTable.rename}
MISTAKES: Final = {"add": "exists", "rename": "missing"}
CLASSES: Final = dict.fromkeys(("", *STATES))
"""Choices for the class of a code; the empty one is the default meaning of its number."""


class ConflictingFormError(PageError, ErrorCodeError):
    """The error code exists already, or does not exist."""


class Editing:
    """Handles the forms of the page of error codes.

    Args:
        settings: The receiver's settings, with the tables.
        forms: Reads the forms.
    """

    def __init__(self, settings: Settings, forms: Forms) -> None:
        self._forms = forms
        self._tables = all_code_tables(settings.catalogue)

    async def change(self, view: View) -> web.Response:
        """Answer `POST /codes`: add or rename a code.

        Raises:
            BadParameterError: a field is malformed.
            ConflictingFormError: the code is there already, or the one to rename is gone.
        """
        form = await self._forms.read(view)
        action = read_choice(form, "action", ACTIONS, "add")
        table = CodeTable(read_choice(form, "table", dict.fromkeys(self._tables), self._tables[0]))
        code = read_number(form, "code")
        if code is None:
            raise BadParameterError("bad_number", name="code", lowest="-2³¹", highest="2³¹-1")
        name = read_text(form, "name", needed=True)
        # None would keep the description of an existing code.
        nothing = None if action == "add" else ""
        description = read_text(form, "description", needed=False) or nothing
        # A form without this field leaves the class as it is.
        class_ = read_choice(form, "class", CLASSES, "") if "class" in form else None
        try:
            async with self._forms.connection() as connection:
                await ACTIONS[action](table, connection, code, name, description)
                if class_:
                    await classify(connection, table.name, code, class_)
                elif class_ is not None:
                    await declassify(connection, table.name, code)
                namesake = await table.find_namesake(connection, code, name)
        except ErrorCodeError:
            raise ConflictingFormError(MISTAKES[action], code=code) from None
        return go_to(
            view.link(
                "codes",
                table=None if table.name == self._tables[0] else table.name,
                saved=code,
                namesake=namesake and namesake.code,
                **{"from": form.get("from")},
            )
        )
