"""Rejected samples without a source, and the search for what the database refuses."""

from receiver.storage.schema.migrations import run_script

revision = "0004"
down_revision = "0003"


def upgrade() -> None:
    run_script("0004_rejected.sql")
