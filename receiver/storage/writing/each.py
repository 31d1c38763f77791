"""Runs a statement for many entries of which the database may refuse some.

A user's constraint, trigger, rule or policy may refuse an entry. It is then found by running the
statement over ever smaller parts, within the server and the same transaction
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

# Whether a policy may be what refuses rows: else a right is missing, to the table or to what a
# trigger of it uses.
MAY_BE_POLICY: Final = "SELECT has_table_privilege($1, 'INSERT') AND row_security_active($1)"

# Whether a foreign key that was broken refers to one of these tables ($2), by its name ($1). Citus
# passes on only the message of a node ($3), where the name ends with the number of a shard, and is
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

# A time, out of a number of microseconds since 2000-01-01 UTC, exact in the whole range.
TIME: Final = """
(timestamp '2000-01-01' + make_interval(days => ({0}::bigint / 86400000000)::int,
    secs => ({0}::bigint % 86400000000) / 1e6)) AT TIME ZONE 'UTC'
"""

# Citus undoes what fails on each of its connections, some milliseconds each, and opens many to read
# several shards of a node; other servers take this for a variable of somebody's own.
FEW_CONNECTIONS: Final = "SET LOCAL citus.max_adaptive_executor_pool_size = 1"
"""Begins a transaction in which a statement may fail for many entries."""

UNIQUE_VIOLATION: Final = "23505"
FOREIGN_KEY_VIOLATION: Final = "23503"
CHECK_VIOLATION: Final = "23514"
MAX_MESSAGE: Final = 200
AT_ONCE: Final = 500
"""Entries of one call: where each fails, the server walks through all of them for each."""

REFUSALS: Final = (
    DuplicateRowError,
    MissingReferenceError,
    RefusedByDatabaseError,
    StatementRefusedError,
)
"""What may be the fault of some entries only."""


class Failure(NamedTuple):
    """Why a statement failed."""

    code: str
    """The SQLSTATE."""
    constraint: str
    """The name of the constraint that was broken; empty if there is none, or on a node of Citus."""
    message: str
    """What the server said, in one line."""


async def run_for_each(
    connection: Connection,
    table: str,
    statement: str,
    entries: Sequence[Sequence[object]],
    codes: Sequence[str] = (),
) -> Mapping[int, Failure]:
    """Run a statement for entries; return why it failed for some, by their places from 0.

    Args:
        connection: In a transaction; what did not fail is in effect there.
        table: The table that the statement writes to.
        statement: Takes a part of the entries as `$1`, an array of JSONB.
        entries: Rows of the table; in JSON, bytes are hexadecimal digits, and a floating-point
            number is a string, as which it stays what it is.
        codes: Tables of codes that the entries refer to, by name; all may refer to `sources`.

    Raises:
        StatementRefusedError: it failed for all, for a reason that is none of theirs.
        ConflictingTransactionError: what an entry refers to is gone; run the transaction again.
    """
    failures: dict[int, Failure] = {}
    distributed = await is_distributed(connection)
    if distributed:
        # Without it, Citus copies the rows, and then does not say what a node has said.
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
