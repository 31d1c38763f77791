"""States and reports: how long each state lasted, and what that says of failures and repairs."""

from receiver.storage.schema.migrations import run_script

revision = "0008"
down_revision = "0007"


def upgrade() -> None:
    run_script("0008_reports.sql")
