"""The tables of the demo: the built-in one, and one of other metrics beside it."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

TABLES: Final = """\
# What `receiver demo` stores; docs/tables.md explains it.
tables:
  app_logs:
    columns:
      app_status: {metric: app_status, type: code, codes: error_codes}
      ocr_value: {metric: ocr_value, type: timestamp}
  press_readings:
    labels: {line: text}
    columns:
      pressure: {metric: press_pressure_bar, type: double}
      running: {metric: press_running, type: boolean}
      strokes: {metric: press_strokes_total, type: bigint, required: false}
"""


@contextmanager
def tables_file() -> Iterator[Path]:
    """Write a tables file, and remove it at the end of this context."""
    with tempfile.TemporaryDirectory(prefix="receiver-demo-tables-") as directory:
        file = Path(directory) / "tables.yaml"
        file.write_text(TABLES, encoding="utf-8")
        yield file
