"""The check of a batch's references at once."""

from receiver.storage.schema.migrations import run_script

revision = "0006"
down_revision = "0005"


def upgrade() -> None:
    run_script("0006_references.sql")
