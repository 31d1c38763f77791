"""Random declarations of tables, as the text of a file and as the catalogue that it declares."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from typing import Any, Final, NamedTuple

import yaml
from hypothesis import strategies as st
from hypothesis.strategies import SearchStrategy

from receiver.config.catalogue import TIMESTAMPS
from receiver.config.value_types import write_duration
from receiver.rows.columns import BIGINT, BOOLEAN, CODE, DOUBLE, SPECIAL_DOUBLE, ColumnType
from receiver.rows.tables import Catalogue, Column, LabelColumn, Table

METRICS: Final = (
    "app_status",
    "ocr_value",
    "press_strokes_total",
    "job:press_pressure:mean5m",
    "press_seconds_bucket",
    "온도.섭씨",
    "with blank",
    'quo"te',
)
"""Few metrics, so that tables share them."""

ODD_NAMES: Final = (
    *("select", "user", "ORDER", "Table", "null", "true", "no", "1", "~", "value", "samples"),
    *(
        "온도",
        "압력 (bar)",
        "é",
        "e\N{COMBINING ACUTE ACCENT}",
        'quo"te',
        "apo'strophe",
        "per%cent",
    ),
    *("co:lon", "a.b", "$1", "{x}", "back\\slash", "-", "a, b", "# x", "created at", "ID"),
)
COLUMN_NAMES: Final = (*ODD_NAMES, "n" * 63, "열" * 21)
TABLE_NAMES: Final = (*ODD_NAMES, "app_logs", "press_readings", "t" * 40, "표" * 13)
CODE_TABLES: Final = ("error_codes", "robot states", "상태", "c" * 40)
LABELS: Final = ("job", "instance", "line", "machine", "le", "라인", "no")
EXPRESSIONS: Final = ("", ".*", ".+", "a|b", "A.B", "[^x]*", "(?i)x", "1", "값", r"\d+", "true")

TYPES: Final[Mapping[str, ColumnType]] = {
    "code": CODE,
    "bigint": BIGINT,
    "boolean": BOOLEAN,
    "double": DOUBLE,
    "special double": SPECIAL_DOUBLE,
    **{f"timestamp in {unit}": type_ for unit, type_ in TIMESTAMPS.items()},
}

ages: SearchStrategy[timedelta] = st.integers(1, 10_000).map(lambda hours: timedelta(hours=hours))


class Declared(NamedTuple):
    """A declaration."""

    text: str
    """The content of a tables file."""
    catalogue: Catalogue
    """The declared catalogue, built without the parser."""


class Entry(NamedTuple):
    """A part of a declaration: as written in the file, and its meaning."""

    written: Any
    meant: Any


@st.composite
def columns(draw: st.DrawFn, name: str, metric: str, *, required: bool) -> Entry:
    """Draw a column that holds the samples of a metric."""
    kind = draw(st.sampled_from(sorted(TYPES)))
    word, _, more = kind.partition(" in ")
    written: dict[str, Any] = {"metric": metric, "type": word.removeprefix("special ")}
    codes = draw(st.sampled_from(CODE_TABLES)) if word == "code" else ""
    if codes:
        written["codes"] = codes
    if more and (more != "seconds" or draw(st.booleans())):
        written["unit"] = more
    if word.startswith("special"):
        written["special"] = True
    if not required or draw(st.booleans()):
        written["required"] = required
    return Entry(written, Column(name, metric, TYPES[kind], required=required, codes=codes))


@st.composite
def label_columns(draw: st.DrawFn, name: str) -> Entry:
    """Draw a column that holds the value of a label, which may have the column's name."""
    type_ = draw(st.sampled_from(["text", "bigint"]))
    if name in LABELS and draw(st.booleans()):
        return Entry(type_, LabelColumn(name, name, type_))
    label = draw(st.sampled_from(LABELS))
    written = {"label": label} if type_ == "text" else {"label": label, "type": type_}
    return Entry(written, LabelColumn(name, label, type_))


@st.composite
def tables(draw: st.DrawFn, name: str, max_columns: int) -> Entry:
    """Draw a table; some of its columns may be optional, at least one is required."""
    metrics = draw(
        st.lists(st.sampled_from(METRICS), min_size=1, max_size=max_columns, unique=True)
    )
    pool = st.sampled_from(sorted({*COLUMN_NAMES, *LABELS}))
    count = len(metrics) + draw(st.integers(0, 2))
    names = draw(st.lists(pool, min_size=count, max_size=count, unique=True))
    optional = draw(st.sets(st.sampled_from(metrics))) - {draw(st.sampled_from(metrics))}
    held = {
        column: draw(columns(column, metric, required=metric not in optional))
        for column, metric in zip(names, metrics, strict=False)
    }
    copied = {column: draw(label_columns(column)) for column in names[len(metrics) :]}
    copied_labels = {entry.meant.label for entry in copied.values()}
    ignored = draw(st.sets(st.sampled_from(LABELS), max_size=2)) - copied_labels
    match = draw(st.dictionaries(st.sampled_from(LABELS), st.sampled_from(EXPRESSIONS), max_size=2))
    waits = draw(st.none() | st.integers(1, 10_000).map(lambda count: timedelta(seconds=count)))
    compress_after, retention = draw(st.none() | ages), draw(st.none() | ages)
    written = {
        "match": match,
        "ignoring": sorted(ignored),
        "labels": {name: entry.written for name, entry in copied.items()},
        "columns": {name: entry.written for name, entry in held.items()},
        "pair_timeout": waits and write_duration(waits),
        "compress_after": write_duration(compress_after) if compress_after else "off",
        "retention": retention and write_duration(retention),
    }
    meant = Table(
        name,
        [entry.meant for entry in held.values()],
        labels=[entry.meant for entry in copied.values()],
        match=match,
        ignoring=frozenset(ignored),
        pair_timeout=waits or timedelta(hours=2),
        compress_after=compress_after,
        retention=retention,
    )
    return Entry({key: value for key, value in written.items() if value}, meant)


@st.composite
def catalogues(draw: st.DrawFn, max_tables: int = 5, max_columns: int = 6) -> Declared:
    """Draw a valid declaration of one to a few tables with any kind of column and name."""
    names = draw(
        st.lists(st.sampled_from(TABLE_NAMES), min_size=1, max_size=max_tables, unique=True)
    )
    entries = {name: draw(tables(name, max_columns)) for name in names}
    content = {"tables": {name: entry.written for name, entry in entries.items()}}
    text = yaml.safe_dump(
        content,
        allow_unicode=draw(st.booleans()),
        default_flow_style=draw(st.booleans()),
        sort_keys=False,
        width=draw(st.sampled_from([80, 10_000])),
    )
    return Declared(text, Catalogue([entry.meant for entry in entries.values()]))
