"""${message}."""

from receiver.storage.migrations import run_script

revision = ${repr(up_revision)}
down_revision = ${repr(down_revision)}


def upgrade() -> None:
    run_script("${up_revision}_${message.lower().replace(" ", "_")}.sql")
