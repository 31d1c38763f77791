"""Any declared table in place of one: what waits and what is rejected names its table."""

from receiver.storage.schema.migrations import run_script

revision = "0007"
down_revision = "0006"


def upgrade() -> None:
    run_script("0007_tables.sql")
