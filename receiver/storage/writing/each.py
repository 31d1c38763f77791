"""Runs a statement for many entries of which the database may refuse some.

A user's constraint, trigger, rule or policy may refuse an entry. The refused entry is then found by
running the statement on ever smaller parts, within the server and the same transaction
(`receiver_run_for_each` in migrations/0004_rejected.sql).
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Final, NamedTuple

from receiver.errors import (
    ConflictingTransactionError,
    DuplicateRowError,
    MissingReferenceError,
    RefusedByDatabaseError,
    StatementRefusedError,
)
from receiver.storage.connection.connecting import is_distributed
from receiver.storage.connection.database import (
    INSUFFICIENT_PRIVILEGE,
    STATEMENT_CLASSES,
    Connection,
)
from receiver.storage.connection.places import quote

RUN_FOR_EACH: Final = (
    "SELECT place, code, broken, message FROM receiver_run_for_each($1, $2::jsonb[])"
)

# Whether a policy may be what refuses rows: otherwise a privilege is missing, on the table or on
# something that one of its triggers uses.
MAY_BE_POLICY: Final = "SELECT has_table_privilege($1, 'INSERT') AND row_security_active($1)"

# Whether a violated foreign key, by its name ($1), refers to one of these tables ($2). Citus ($3)
# passes on only the message of a node, in which the name ends with the number of a shard, and is
# cut after 46 bytes if it is long.
REFERS: Final = """
SELECT EXISTS (
    SELECT FROM pg_constraint, unnest($1::text[]) AS broken (name)
    WHERE contype = 'f'
      AND confrelid = ANY(ARRAY(SELECT to_regclass(name) FROM unnest($2::text[]) AS name))
      AND (name = conname OR $3 AND strpos(name, left(conname, (
          SELECT max(length) FROM generate_series(1, 46) AS length
          WHERE octet_length(left(conname, length)) <= 46
      ))) > 0)
)
"""

# Converts microseconds since 2000-01-01 UTC to a time, exactly in the whole range.
TIME: Final = """
(timestamp '2000-01-01' + make_interval(days => ({0}::bigint / 86400000000)::int,
    secs => ({0}::bigint % 86400000000) / 1e6)) AT TIME ZONE 'UTC'
"""

# Citus rolls back a failure on each of its connections, which takes some milliseconds each, and
# opens many to read several shards of a node. Other servers accept this as a custom variable.
FEW_CONNECTIONS: Final = "SET LOCAL citus.max_adaptive_executor_pool_size = 1"
"""The first statement of a transaction in which a statement may fail for many entries."""

UNIQUE_VIOLATION: Final = "23505"
FOREIGN_KEY_VIOLATION: Final = "23503"
CHECK_VIOLATION: Final = "23514"
MAX_MESSAGE: Final = 200
AT_ONCE: Final = 500
"""Maximum number of entries of one call: for each one that fails, the server walks through all."""

REFUSALS: Final = (
    DuplicateRowError,
    MissingReferenceError,
    RefusedByDatabaseError,
    StatementRefusedError,
)
"""Errors that may be the fault of some entries only."""


class Failure(NamedTuple):
    """Why a statement failed."""

    code: str
    """The SQLSTATE."""
    constraint: str
    """The name of the violated constraint; empty if there is none, or on a node of Citus."""
    message: str
    """The server's message, in one line."""


async def run_for_each(
    connection: Connection,
    table: str,
    statement: str,
    entries: Sequence[Sequence[object]],
    codes: Sequence[str] = (),
) -> Mapping[int, Failure]:
    """Run a statement for entries; return why it failed for some, by their places from 0.

    Args:
        connection: Must be in a transaction, in which entries that did not fail take effect.
        table: The table that the statement writes to.
        statement: Takes a part of the entries as `$1`, an array of JSONB.
        entries: Rows of the table; in JSON, bytes are hexadecimal digits, and a floating-point
            number is a string, which keeps it exact.
        codes: Tables of codes that the entries refer to, by name; all may refer to `sources`.

    Raises:
        StatementRefusedError: it failed for all entries, for a reason other than their data.
        ConflictingTransactionError: a row that an entry refers to is gone; retry the transaction.
    """
    failures: dict[int, Failure] = {}
    distributed = await is_distributed(connection)
    if distributed:
        # Without it, Citus uses COPY, and then does not pass on the message of a node.
        statement += " RETURNING true"
    for start in range(0, len(entries), AT_ONCE):
        some = list(map(to_json, entries[start : start + AT_ONCE]))
        for place, code, constraint, message in await connection.fetch(
            RUN_FOR_EACH, statement, some
        ):
            text = " ".join(message.split())[:MAX_MESSAGE]
            failures[start + place - 1] = Failure(code, constraint, text)
    broken = {
        failure.constraint or failure.message
        for failure in failures.values()
        if failure.code == FOREIGN_KEY_VIOLATION
    }
    if broken:
        ours = [quote(name) for name in ("sources", *codes)]
        if await connection.fetchval(REFERS, list(broken), ours, distributed):
            raise ConflictingTransactionError("a source or a code was deleted meanwhile")
    states = {failure.code for failure in failures.values()}
    if states == {INSUFFICIENT_PRIVILEGE} and await connection.fetchval(MAY_BE_POLICY, table):
        # A policy of row-level security, which judges each row by itself.
        return failures
    if len(failures) == len(entries) and all(
        state.startswith(STATEMENT_CLASSES) for state in states
    ):
        code, _, message = failures[0]
        raise StatementRefusedError(
            f"the database answered: {message} (SQLSTATE {code}), for every row of {table}; "
            "`receiver doctor` shows what differs"
        )
    return failures


def to_json(entry: Iterable[object]) -> str:
    """Write a row as a JSON array."""
    values = [
        value.hex()
        if isinstance(value, bytes)
        else repr(value)
        if isinstance(value, float)
        else value
        for value in entry
    ]
    return json.dumps(values, ensure_ascii=False)
