"""Advisory locks that replicas share."""

from typing import Final

# Replicas that start together migrate one after the other.
MIGRATION_LOCK: Final = "SELECT pg_advisory_xact_lock(7345190225)"

TRY_MAINTENANCE_LOCK: Final = "SELECT pg_try_advisory_xact_lock(7345190226)"
"""Takes the maintenance lock unless another replica holds it; true if this transaction has it."""
