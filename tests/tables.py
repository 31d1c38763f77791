"""Declared tables that tests share, and samples for them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

import asyncpg

from receiver.config.tables_reader import parse_catalogue
from receiver.rows.tables import Catalogue
from tests.receivers import Point

APP_LOGS = """\
  app_logs:
    columns:
      app_status: {metric: app_status, type: code, codes: error_codes}
      ocr_value: {metric: ocr_value, type: timestamp}
"""
OTHERS = """\
  press_readings:
    match: {job: plc, line: "A|B"}
    ignoring: [sensor]
    labels: {line: text, press: {label: press_id, type: bigint}}
    columns:
      pressure: {metric: press_pressure_bar, type: double, special: true}
      strokes: {metric: press_strokes_total, type: bigint, required: false}
      running: {metric: press_running, type: boolean}
  robots:
    columns:
      state: {metric: robot_state, type: code, codes: robot_states}
      "설명": {metric: robot_note, type: code, codes: error_codes, required: false}
      select: {metric: robot_seen_ms, type: timestamp, unit: milliseconds, required: false}
"""
ALL = f"tables:\n{APP_LOGS}{OTHERS}"
"""The built-in app_logs, a table of numbers, and one with its own code table."""
WITHOUT_LOGS = f"tables:\n{OTHERS}"

PRESS: Mapping[str, str] = {"instance": "plc-1", "job": "plc", "line": "A", "press_id": "7"}
ROBOT: Mapping[str, str] = {"instance": "r-1", "job": "robot"}
CAMERA: Mapping[str, str] = {"instance": "cam-1", "job": "camera"}


def write_tables(directory: Path, text: str = ALL) -> str:
    """Write a tables file; return its path, in the form of a flag or a setting."""
    file = directory / "tables.yaml"
    file.write_text(text, encoding="utf-8")
    return str(file)


def catalogue(text: str = ALL) -> Catalogue:
    """Parse the text of a tables file."""
    return parse_catalogue(text)


def press(at: int, pressure: float, running: float, strokes: float | None = None) -> list[Point]:
    """Return the samples of a row of press_readings; each metric comes from its own sensor."""
    found = {"press_pressure_bar": pressure, "press_running": running}
    if strokes is not None:
        found["press_strokes_total"] = strokes
    return [
        ({**PRESS, "__name__": name, "sensor": str(number)}, at, value)
        for number, (name, value) in enumerate(found.items())
    ]


def robot(at: int, state: float, note: float | None = None) -> Iterator[Point]:
    """Yield the samples of a row of robots."""
    yield {**ROBOT, "__name__": "robot_state"}, at, state
    if note is not None:
        yield {**ROBOT, "__name__": "robot_note"}, at, note


def camera(at: int, status: float) -> list[Point]:
    """Return the samples of a row of app_logs."""
    names = {"app_status": status, "ocr_value": at / 1000}
    return [({**CAMERA, "__name__": name}, at, value) for name, value in names.items()]


async def execute(database_url: str, statements: str) -> None:
    """Run statements as a database administrator does."""
    connection = await asyncpg.connect(database_url)
    await connection.execute(statements)
    await connection.close()
