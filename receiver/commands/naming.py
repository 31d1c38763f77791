"""Finds the sources that a person names, or reports which there are."""

from __future__ import annotations

from typing import Final

from receiver.commands.terminal import short_labels
from receiver.config.explaining import show
from receiver.config.suggestions import did_you_mean
from receiver.errors import MissingEntryError, UsageError
from receiver.storage.connection.database import Connection
from receiver.storage.reading.sources import find_named, first_sources, with_rows

NAMES: Final = "its instance, its number, or NAME=VALUE of a label"
"""How a source is named, for help texts."""
SHOWN: Final = 5
"""Number of sources that an error names."""
LOOKED_AT: Final = 1000
"""Number of sources among which a name is searched for."""


async def find_one(connection: Connection, name: str, table: str | None = None) -> int:
    """Return the number of the only source that has a name.

    Args:
        connection: The session.
        name: What `NAMES` says.
        table: If several sources have the name, only those with rows in this table count.

    Raises:
        MissingEntryError: there is no such source.
        UsageError: several sources have this name.
    """
    found = await find_named(connection, name)
    if not found:
        raise MissingEntryError(
            f"there is no source {name}{await describe_sources(connection, name)}"
        )
    if table is not None and len(found) > 1:
        found = await with_rows(connection, table, found[:LOOKED_AT]) or found
    if len(found) > 1:
        numbers = f"{', '.join(map(str, found[:SHOWN]))}{', …' if found[SHOWN:] else ''}"
        raise UsageError(
            f"SOURCE {name} is the name of {len(found)} sources, numbers {numbers}: name one by "
            "its number, or by a label that the others lack"
        )
    return found[0]


async def describe_sources(connection: Connection, name: str) -> str:
    """Return the end of an error about an unknown name: a similar one, and what there is."""
    sources = await first_sources(connection, LOOKED_AT)
    if not sources:
        return "; there are no sources yet"
    pairs = (f"{key}={value}" for labels in sources.values() for key, value in labels.items())
    same = next((pair for pair in pairs if pair.partition("=")[2] == name), None)
    instances = [labels["instance"] for labels in sources.values() if "instance" in labels]
    meant = f" (did you mean {show(same)}?)" if same else did_you_mean(name, instances)
    names = [
        f"#{id_} {show(labels.get('instance') or short_labels(labels))}".rstrip()
        for id_, labels in [*sources.items()][:SHOWN]
    ]
    more = ", …" if len(sources) > SHOWN else ""
    return f"{meant}; there are {', '.join(names)}{more}"
