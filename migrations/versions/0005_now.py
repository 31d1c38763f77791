"""What "now" means to the views: the past, whatever a wrong clock has dated ahead."""

from receiver.storage.schema.migrations import run_script

revision = "0005"
down_revision = "0004"


def upgrade() -> None:
    run_script("0005_now.sql")
