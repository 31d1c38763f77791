"""The demo's past."""

from __future__ import annotations

from itertools import groupby
from random import Random

from receiver.config.catalogue import built_in
from receiver.demo.history import LENGTH, MICRO_STOP, SILENT, SILENT_FOR, history, states

NOW = 1_700_000_000.0
TABLE = built_in().by_name["app_logs"]


def test_every_row_is_whole_and_the_silent_application_ends_earlier() -> None:
    samples = [sample for part in history(TABLE, ["a"], "job", NOW, Random(1)) for sample in part]
    rows: dict[tuple[str, int], set[str]] = {}
    for series, timestamp, _ in samples:
        instance = dict(series.source.labels)["instance"]
        rows.setdefault((instance, timestamp), set()).add(series.column.name)
    assert all(columns == {"app_status", "ocr_value"} for columns in rows.values())
    newest = {name: max(at for other, at in rows if other == name) for name in ("a", SILENT)}
    assert 0 <= NOW - newest["a"] / 1000 < 600
    silent = SILENT_FOR.total_seconds()
    assert silent <= NOW - newest[SILENT] / 1000 < silent + 600


def test_there_are_failures_and_micro_stops() -> None:
    found = list(states(NOW - 10 * LENGTH.total_seconds(), NOW, Random(1)))
    stops = [list(group) for code, group in groupby(found, key=lambda row: row[1]) if code]
    lengths = [stop[-1][0] - stop[0][0] for stop in stops]
    assert [length for length in lengths if length < MICRO_STOP[1]]
    assert [length for length in lengths if length > 300]
