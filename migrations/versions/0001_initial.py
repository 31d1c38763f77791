"""The tables of the first release."""

from receiver.storage.schema.migrations import run_script

revision = "0001"
down_revision = None


def upgrade() -> None:
    run_script("0001_initial.sql")
