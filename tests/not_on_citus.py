"""Tests that cannot pass on a Citus cluster, by reason."""

from __future__ import annotations

import os
import re
from typing import Final

import asyncpg

IS_CHOSEN: Final = bool(os.environ.get("RECEIVER_TEST_CITUS_URL"))
"""Whether the test databases are on a Citus cluster."""

# Errors with which Citus refuses schema changes that tests make the way users would.
REFUSED_CHANGES: Final = re.compile(
    r"triggers are not supported on (distributed|reference) tables"
    r"|creating unique indexes on non-partition columns"
    r"|cannot create constraint on"
    r"|non-distributed tables cannot inherit distributed tables"
    r"|referenced table \S+ must be a distributed table or a reference table"
    r"|cannot execute ALTER TABLE command involving partition column"
    r"|cannot insert multiple commands into a prepared statement"
    r"|rule _RETURN on view \S+ uses its row type"
)

# Reasons why tests cannot pass, each with prefixes of the names of these tests.
CANNOT_HOLD: Final = {
    "Citus does not write to tables with rules": (
        "integration/test_refusals.py::test_a_label_set_that_sources_does_not_take_harms_no_other[rule",
        "integration/test_refusals.py::test_a_row_that_is_refused_harms_no_other[rows-rule",
        "integration/test_refusals.py::test_a_row_that_is_refused_harms_no_other[halves-rule",
        "integration/test_refusals.py::test_pending_rows_that_are_refused_harm_no_other[first0-rule",
        "integration/test_refusals.py::test_pending_rows_that_are_refused_harm_no_other[first1-rule",
        "integration/test_rehearsal.py::test_where_rows_can_be_stored_they_are[statement4",
    ),
    "its statement is for plain tables": (
        "integration/test_now.py::test_what_is_to_come_is_not_read[metric",
        "integration/test_migrations.py::test_the_newest_logs_come_from_an_index",
        "integration/test_odd_labels.py::test_metrics_carry_a_bounded_part",
        "integration/test_views.py::test_no_more_is_read_than_was_asked_for",
        "integration/test_refusals.py::test_each_of_many_refused_is_found_in_hardly_more_runs",
        "integration/test_refusals.py::test_what_is_refused_is_found_by_its_place",
        "integration/test_report_command.py::test_lines_are_in_the_order_in_which_people_count",
    ),
    "the shards of a test's table are so small that they are read whole": (
        "integration/test_page_plans.py::test_no_more_is_read_than_is_shown",
        "integration/test_page_plans.py::test_a_young_table_is_read_by_source",
    ),
    "on Citus, locks are waited for on the nodes, where the test does not look": (
        "integration/writing/test_optional.py::"
        "test_an_optional_sample_waits_if_its_row_is_deleted_meanwhile",
    ),
    "Citus does not explain what it writes": (
        "integration/test_write_plans.py::test_each_statement_visits_few_rows_for_each_row_that_it_writes",
    ),
    "Citus completes a COPY whose client has gone; its sender repeats it": (
        "faults/test_shutdown.py::test_what_cannot_be_stored_in_time_is_refused",
    ),
    "a database with Citus is not given TimescaleDB": (
        "integration/test_requirements.py::test_no_right_to_create_the_extension",
        "integration/test_summary.py::test_it_comes_when_the_hypertable_does",
        "integration/test_places.py::test_timescaledb_may_have_a_schema_of_its_own",
        "integration/test_requirements.py::test_an_extension_that_the_server_does_not_load",
    ),
    "Citus needs the schema public": ("integration/test_requirements.py::test_no_schema_at_all",),
    "Citus does not pass on what is raised on a node, so that it displaces no row": (
        "integration/test_export.py::test_what_no_setting_silences_loses_no_row_unseen",
    ),
    "nothing of reports is kept on Citus": (
        "integration/test_kept_reports.py::",
        "integration/test_recent_reports.py::",
    ),
    "on Citus, the reader of a view needs rights on its tables": (
        "integration/test_views.py::test_a_right_on_a_view_is_enough",
    ),
    "the nodes of Citus look up what a batch refers to": (
        "integration/test_references.py::test_a_batch_is_checked_once",
    ),
    "Citus skips no locked rows of several shards": (
        "integration/test_retention.py::test_a_row_that_somebody_works_on_is_not_waited_for",
    ),
    "a sequence that a CHECK counts by is not on the nodes of Citus": (
        "integration/test_refusals.py::test_what_is_stored_is_not_tried_again_beside_a_refused_row",
    ),
    "Citus chooses itself which side of a deadlock it ends": (
        "integration/schema/test_tables.py::"
        "test_a_migration_that_deadlocks_with_a_writer_is_run_again",
    ),
    "Citus has connections of its own": (
        "integration/test_doctor.py::test_a_fault_is_found[DO $$ BEGIN EXECUTE format("
        "'ALTER DATABASE %I CONNECTION LIMIT",
    ),
}


def find_reason(name: str) -> str | None:
    """Return why a test cannot pass on a cluster; None if it can.

    Args:
        name: Path of the test below `tests` and its name.
    """
    for reason, beginnings in CANNOT_HOLD.items():
        if name.startswith(beginnings):
            return reason
    return None


def is_refused(error: BaseException) -> bool:
    """Return whether Citus refused a statement that the test itself ran."""
    return isinstance(error, asyncpg.PostgresError) and bool(REFUSED_CHANGES.search(str(error)))
