"""How log messages look: to standard error, one line each."""

from __future__ import annotations

import logging


def set_up_logging(level: str) -> None:
    """Log messages of `level` and above; the libraries' own only when something is wrong."""
    logging.basicConfig(
        level=level.upper(), format="%(asctime)s %(levelname)-7s %(message)s", force=True
    )
    for name in ("alembic", "asyncio", "sqlalchemy"):
        logging.getLogger(name).setLevel(logging.WARNING)
