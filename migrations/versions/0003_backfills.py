"""How far backfills have come."""

from receiver.storage.schema.migrations import run_script

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    run_script("0003_backfills.sql")
