"""The tables file: its declarations, and the report of every error in it."""

from __future__ import annotations

import json
import pickle
import re
from datetime import timedelta
from pathlib import Path
from random import Random
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from receiver.config.catalogue import DEFAULTS, Durations, built_in, describe, digest
from receiver.config.tables_reader import parse_catalogue, read_catalogue
from receiver.config.tables_reference import SCHEMA
from receiver.errors import SettingsError, TablesFileError
from receiver.rows.columns import BOOLEAN, CODE, DOUBLE, SPECIAL_DOUBLE
from receiver.rows.tables import Catalogue
from tests.catalogues import Declared, catalogues
from tests.conftest import MakeSettings
from tests.schemas import Judge

EXAMPLE = """\
tables:
  app_logs:
    columns:
      app_status: {metric: app_status, type: code, codes: error_codes}
      ocr_value: {metric: ocr_value, type: timestamp, unit: seconds}
  press_readings:
    match: {job: plc, line: "A|B"}
    ignoring: [sensor]
    labels: {line: text, machine: {label: machine_id, type: bigint}}
    columns:
      pressure: {metric: press_pressure_bar, type: double}
      strokes: {metric: press_strokes_total, type: bigint, required: false}
      running: {metric: press_running, type: boolean}
    pair_timeout: 10m
    compress_after: off
    retention: 2y
"""
SCHEMA_JUDGE = Judge(json.loads(SCHEMA.read_text()))


def faults_of(text: str) -> list[str]:
    """Return the errors of a file, without its name."""
    with pytest.raises(TablesFileError) as refused:
        parse_catalogue(text, "f")
    return [fault.removeprefix("f ") for fault in refused.value.faults]


def table(*lines: str) -> str:
    """Return a file with a table `t` that has a column and these lines."""
    rest = "".join(f"    {line}\n" for line in lines)
    return f"tables:\n  t:\n    columns: {{a: {{metric: m, type: double}}}}\n{rest}"


def column(declared: str, name: str = "c") -> str:
    """Return a file with a table `t` that has one column."""
    return f"tables:\n  t:\n    columns:\n      {name}: {{{declared}}}\n"


def outline(catalogue: Catalogue) -> list[Any]:
    """Return all properties of a catalogue, for comparison with another one."""
    return [
        (
            one.name,
            [(c.name, c.metric, c.type, c.required, c.codes, c.special) for c in one.columns],
            one.labels,
            dict(one.match),
            one.ignoring,
            (one.pair_timeout, one.compress_after, one.retention),
        )
        for one in catalogue.tables
    ]


# --- declarations ---------------------------------------------------------------------------------


def test_the_tables_of_a_file() -> None:
    logs, readings = parse_catalogue(EXAMPLE).tables
    assert [column.name for column in readings.columns] == ["pressure", "running", "strokes"]
    assert (readings.required, readings.width) == (2, 3)
    pressure, running, strokes = readings.columns
    assert (pressure.type, running.type, strokes.metric) == (DOUBLE, BOOLEAN, "press_strokes_total")
    assert (pressure.required, strokes.required) == (True, False)
    assert readings.labels == (("line", "line", "text"), ("machine", "machine_id", "bigint"))
    assert readings.ignoring == {"sensor"}
    assert readings.matches is not None
    assert readings.matches({"job": "plc", "line": "B"})
    assert not readings.matches({"job": "plc", "line": "AB"})
    assert readings.pair_timeout == timedelta(minutes=10)
    assert (readings.compress_after, readings.retention) == (None, timedelta(days=730))
    assert (logs.columns[0].type, logs.columns[0].codes) == (CODE, "error_codes")
    durations = (logs.pair_timeout, logs.compress_after, logs.retention)
    assert durations == (DEFAULTS.pair_timeout, DEFAULTS.compress_after, DEFAULTS.retention)


def test_what_holds_for_a_table_that_does_not_say_it() -> None:
    durations = Durations(timedelta(minutes=1), None, timedelta(days=3))
    logs, readings = parse_catalogue(EXAMPLE, durations=durations).tables
    assert (logs.pair_timeout, logs.compress_after, logs.retention) == durations
    assert readings.pair_timeout == timedelta(minutes=10)


def test_the_built_in_tables_are_those_of_a_file_that_declares_them() -> None:
    text = EXAMPLE.partition("  press_readings")[0]
    assert outline(built_in()) == outline(parse_catalogue(text))
    assert digest(built_in()) == digest(parse_catalogue(text))
    assert digest(built_in(ocr_unit="milliseconds")) != digest(built_in())


@given(catalogues())
def test_a_declaration_is_read_as_what_it_declares(declared: Declared) -> None:
    read = parse_catalogue(declared.text)
    assert outline(read) == outline(declared.catalogue)
    assert describe(read) == describe(declared.catalogue)
    assert json.loads(json.dumps(describe(read))) == describe(read)


@given(catalogues(), st.randoms())
def test_the_digest_is_that_of_what_decides_on_rows(declared: Declared, random: Random) -> None:
    content = yaml.safe_load(declared.text)
    before = digest(declared.catalogue)
    names = list(content["tables"])
    random.shuffle(names)
    for name in names:
        one = content["tables"].pop(name)
        one["columns"] = dict(sorted(one["columns"].items(), reverse=True))
        content["tables"][name] = {**one, "retention": "3y", "pair_timeout": "7s"}
    assert digest(parse_catalogue(yaml.safe_dump(content, sort_keys=False))) == before
    columns = content["tables"][names[0]]["columns"]
    columns[next(iter(columns))]["metric"] = "another"
    assert digest(parse_catalogue(yaml.safe_dump(content))) != before


def test_each_part_of_a_declaration_changes_the_digest() -> None:
    texts = [
        column("metric: m, type: double"),
        column("metric: m, type: double, special: true"),
        column("metric: m, type: bigint"),
        column("metric: m, type: timestamp"),
        column("metric: m, type: timestamp, unit: milliseconds"),
        column("metric: m, type: code, codes: d"),
        column("metric: m, type: code, codes: e"),
        column("metric: n, type: double"),
        column("metric: m, type: double", "d"),
        column("metric: m, type: double}\n      d: {metric: n, type: double"),
        column("metric: m, type: double}\n      d: {metric: n, type: double, required: false"),
        *map(table, ["pair_timeout: 1h", "match: {l: a}", "match: {l: b}", "match: {k: a}"]),
        *map(table, ["ignoring: [l]", "ignoring: [k]", "labels: {l: text}", "labels: {l: bigint}"]),
        table("labels: {l: {label: k}}"),
    ]
    assert len({digest(parse_catalogue(text)) for text in texts}) == len(texts)


@pytest.mark.parametrize(
    "name",
    [
        *(
            "select",
            "table",
            "User",
            "ID",
            "온도",
            "n" * 63,
            "열" * 21,
            "a b",
            "no",
            "on",
            "null",
            "1",
        ),
        *("'~'", "'true'", "1_000", "0x1F", "2026-11-28", "1:30", "name", "labels"),
    ],
)
def test_a_name_is_taken_as_it_is_written(name: str) -> None:
    (declared,) = parse_catalogue(column("metric: m, type: double", name)).tables
    assert declared.columns[0].name == name.strip("'")


@pytest.mark.parametrize("value", ["1", "on", "true", "0x1F", "1_0", "''", "2026-11-28"])
def test_the_value_of_a_label_is_text_whatever_yaml_takes_it_for(value: str) -> None:
    (declared,) = parse_catalogue(table(f"match: {{l: {value}}}")).tables
    assert declared.match == {"l": value.strip("'")}


def test_a_double_may_be_special() -> None:
    (declared,) = parse_catalogue(column("metric: m, type: double, special: True")).tables
    assert declared.columns[0].type is SPECIAL_DOUBLE


@pytest.mark.parametrize("name", ["m_bucket", "m_sum", "m{quantile", "온도", "a.b", "with blank"])
def test_metrics_that_there_can_be(name: str) -> None:
    if "{" in name:
        assert faults_of(column(f'metric: "{name}", type: double'))
    else:
        assert list(parse_catalogue(column(f"metric: {name}, type: double")).by_metric) == [name]


# --- errors ---------------------------------------------------------------------------------------

MAPPING = "must be a mapping, with a line `name: …` for each entry"
NO_VALUE = "has no value: write one, indent what belongs to it, or leave it out"
TYPE = "must be code, bigint, double, boolean or timestamp"
OWN = "the receiver uses this name itself: choose another name"
COLUMN_KEYS = "metric, type, codes, unit, special, required"

SHAPES = {
    "": ["line 1: is empty: it must begin with `tables:`"],
    "# nothing\n": ["line 1: is empty: it must begin with `tables:`"],
    "text": [f"line 1: {MAPPING}"],
    "- a": [f"line 1: {MAPPING}"],
    "{}": ["line 1: needs tables"],
    "tables: {}": ["line 1: tables: must not be empty"],
    "tables: []": [f"line 1: tables: {MAPPING}"],
    "\ntables: {t: x}": [f"line 2: table t: {MAPPING}"],
    "tabels: {}": [
        "line 1: needs tables",
        "line 1: tabels: is not a key of the file (did you mean tables?), which can have tables",
    ],
    "tables:\n  t: {}": ["line 2: table t: needs columns"],
    "tables:\n  t: {columns: {}}": ["line 2: table t: columns: must not be empty"],
    table("colums: 1"): [
        "line 4: table t: colums: is not a key of a table (did you mean columns?), which can have "
        "columns, match, ignoring, labels, pair_timeout, compress_after, retention"
    ],
    column("metrc: m, type: double"): [
        "line 4: table t, column c: metrc: is not a key of a column (did you mean metric?), which "
        f"can have {COLUMN_KEYS}",
        "line 4: table t, column c: needs metric",
    ],
    column("metric: m"): [f"line 4: table t, column c: needs type: {TYPE}"],
    column("metric: [m], type: double"): ["line 4: table t, column c: metric: must be text"],
    column("metric: m, type: {a: b}"): [f"line 4: table t, column c: type: {TYPE}"],
    column("metric: m, type: code, codes: [k]"): ["line 4: table t, column c: codes: must be text"],
    column("metric: m, type: code, codes: {k: l}"): [
        "line 4: table t, column c: codes: must be text"
    ],
    **{
        table(f"{key}: [7d]"): [f"line 4: table t: {key}: must be a duration, such as 7d"]
        for key in ("pair_timeout", "compress_after", "retention")
    },
    table("ignoring: sensor"): ["line 4: table t: ignoring=sensor: must be a list, such as [a, b]"],
    table("ignoring: []"): ["line 4: table t: ignoring: must not be empty"],
    table("match: [a]"): [f"line 4: table t: match: {MAPPING}"],
    table("labels:", "  l: {}", "  k: [text]"): [f"line 6: table t, column k: {MAPPING}"],
    table("labels: {l: {lable: k}}"): [
        "line 4: table t, column l: lable: is not a key of a column of a label (did you mean "
        "label?), which can have label, type"
    ],
}
"""Errors that the JSON schema also finds."""

VALUES = {
    column("metric: m, type: flot"): [f"line 4: table t, column c: type=flot: {TYPE}"],
    column("metric: m, type: Duoble"): [
        f"line 4: table t, column c: type=Duoble: {TYPE} (did you mean double?)"
    ],
    column("metric: m, type: float"): [
        f"line 4: table t, column c: type=float: {TYPE} (did you mean double?)"
    ],
    column("metric: m, type: histogram"): [
        "line 4: table t, column c: type=histogram: a histogram is not a single value: declare its "
        "_count and _sum as columns, or record a quantile with a rule and declare that"
    ],
    column("metric: m, type: Summary"): [
        "line 4: table t, column c: type=Summary: a summary is not a single value: declare its "
        "_count and _sum as columns, or each quantile in a table of its own by `match`"
    ],
    column("metric: 'm{a=1}', type: double"): [
        "line 4: table t, column c: metric=m{a=1}: must be the name of a metric, such as "
        "app_status, without any {labels}"
    ],
    column("metric: m, type: code"): [
        "line 4: table t, column c: codes: type code needs `codes`, the table that says what the "
        "codes mean, such as codes: error_codes"
    ],
    column("metric: m, type: bigint, codes: k"): [
        "line 4: table t, column c: codes=k: is only for columns of type code, and this one is a "
        "bigint"
    ],
    column("metric: m, type: double, unit: seconds"): [
        "line 4: table t, column c: unit=seconds: is only for columns of type timestamp, and this "
        "one is a double"
    ],
    column("metric: m, type: timestamp, unit: second"): [
        "line 4: table t, column c: unit=second: must be seconds or milliseconds (did you mean "
        "seconds?)"
    ],
    column("metric: m, type: bigint, special: false"): [
        "line 4: table t, column c: special=false: is only for columns of type double, and this "
        "one is a bigint"
    ],
    column("metric: m, type: double, required: 'true'"): [
        "line 4: table t, column c: required=true: must be true or false, without quotes"
    ],
    table("labels: {l: varchar}"): [
        "line 4: table t, column l: type=varchar: must be text or bigint"
    ],
    table("pair_timeout: 10"): [
        "line 4: table t: pair_timeout=10: must be a duration such as 250ms, 5s, 1h30m or 7d"
    ],
    table("retention: never"): [
        "line 4: table t: retention=never: must be a duration such as 250ms, 5s, 1h30m or 7d, or "
        "off"
    ],
    table("match: {__name__: m}"): [
        "line 4: table t: match __name__: __name__ is the metric: columns have `metric` for it"
    ],
    table("ignoring: [a, __name__]"): [
        "line 4: table t: ignoring=__name__: __name__ is the metric: columns have `metric` for it"
    ],
    table("labels: {l: {label: __name__}}"): [
        "line 4: table t, column l: label=__name__: __name__ is the metric: columns have `metric` "
        "for it"
    ],
    **{
        column("metric: m, type: double", name): [
            f"line 4: table t, column {name}: every table has a column of this name already: "
            "choose another name"
        ]
        for name in ("id", "created_at", "source_id")
    },
    **{
        column("metric: m, type: double", name): [
            f"line 4: table t, column {name}: PostgreSQL uses this name itself: choose another name"
        ]
        for name in ("ctid", "xmin", "xmax", "cmin", "cmax", "tableoid")
    },
    column("metric: m, type: double", "n" * 64): [
        f"line 4: table t, column {'n' * 64}: a name must have at most 63 bytes, and this one has "
        "64"
    ],
    column("metric: m, type: double", "''"): ["line 4: table t, column : a name must not be empty"],
    **{
        table().replace("  t:", f"  {name}:"): [f"line 2: table {name}: {OWN}"]
        for name in (
            *("sources", "pending_rows", "pending_halves", "rejected_samples", "backfills"),
            *("receiver_schema_version", "receiver_x", "app_status_now", "app_status_x"),
        )
    },
    table().replace("  t:", "  pg_class:"): [
        "line 2: table pg_class: PostgreSQL uses names that begin with pg_ itself: choose another "
        "name"
    ],
    table().replace("  t:", "  error_codes:"): [
        "line 2: table error_codes: it holds error codes: choose another name"
    ],
    column("metric: m, type: code, codes: app_logs"): [
        "line 4: table t, column c: codes=app_logs: it holds rows: choose another name, such as "
        "error_codes"
    ],
    column("metric: m, type: code, codes: sources"): [
        f"line 4: table t, column c: codes=sources: {OWN}"
    ],
}
"""Errors in values and names that the JSON schema also finds."""

BEYOND = {
    "tables: [": ["line 1: a value or a closing bracket is missing"],
    "a: b: c": ["line 1: cannot have a `:` here: check the indentation, and "],
    "tables:\n  t\n    columns:": ["line 3: cannot have a `:` here: check the indentation, and "],
    "\n\t- a": ["line 2: has a tab: use spaces"],
    "a: @b": ["line 1: a value that begins with a character such as @ needs quotes"],
    "a:\n    b: 1\n   c: 1": [
        "line 3: is indented differently from the lines that it belongs to: "
    ],
    "a: {b: 1\n\nc: 1": ["line 3: a comma is missing, or the bracket in line 1 is not closed"],
    'a: "b\nc: 1\n': ["line 1: a quotation mark is not closed"],
    'a: "\\d"': [r"line 1: `\` has a meaning of its own within double quotes: use single quotes"],
    "a:\n  b: 1\n  c\nd: 1": ["line 4: line 3 lacks a `:` after its name"],
    "a: - b": ["line 1: a list that begins with `-` needs its own line"],
    "a: \x01": ["line 1: has the character '\\x01'"],
    "a: 1\n--- \nb: 1": ["line 2: a second document begins: remove the line `---`"],
    "[" * 2000: ["line 1: is nested too deeply"],
    "a: \udcff": ["line 1: is not UTF-8 text; save the file as UTF-8"],
    "a: &x 1\nb: *x": ["line 2: has an alias, *x: write out what it stands for"],
    "a: &x [*x]": ["line 1: has an alias, *x: write out what it stands for"],
    "? [a]\n: b": ["line 1: a key must be text"],
    "tables: {t: !python/name:os.system x}": ["line 1: table t: has the tag "],
    "tables:": [f"line 1: tables: {NO_VALUE}"],
    table("match:"): [f"line 4: table t: match: {NO_VALUE}"],
    table("match: {l: ~}"): [f"line 4: table t: match l: {NO_VALUE}"],
    column("metric:m, type: double"): [
        "line 4: table t, column c: metric:m: has no value: a space must follow the `:`",
        "line 4: table t, column c: needs metric",
    ],
    column('metric: "\\0", type: double'): [
        r"line 4: table t, column c: metric='\x00': must be Unicode text without NUL"
    ],
    column('metric: "\\ud800", type: double'): [
        r"line 4: table t, column c: metric='\ud800': must be Unicode text without NUL"
    ],
    column('metric: "a\\nb", type: double'): [
        r"line 4: table t, column c: metric='a\nb': must be the name of a metric, in printable text"
    ],
    column("metric: m, type: double", '"a\\e[1m"'): [
        r"line 4: table t, column 'a\x1b[1m': a name must be printable text"
    ],
    column("metric: m, type: double", "열" * 22): [
        f"line 4: table t, column {'열' * 22}: a name must have at most 63 bytes, and this one has "
        "66"
    ],
    table().replace("  t:", f"  {'표' * 14}:"): [
        f"line 2: table {'표' * 14}: a name must have at most 40 bytes, and this one has 42"
    ],
    table().replace("  t:", "  app_logs_now:"): [f"line 2: table app_logs_now: {OWN}"],
    table("columns: {b: {metric: n, type: double}}"): [
        "line 4: table t: columns: is already in line 3"
    ],
    table() + table().partition("\n")[2]: ["line 4: table t: is already in line 2"],
    column("metric: m, type: double}\n      c: {metric: n, type: double"): [
        "line 5: table t, column c: is already in line 4"
    ],
    column("metric: m, type: double}\n      d: {metric: m, type: double"): [
        "line 5: table t, column d: metric=m: column c of this table has this metric already"
    ],
    column("metric: m, type: double, required: false"): [
        "line 3: table t: columns: at least one column must be required: leave out `required: "
        "false` of one"
    ],
    table("labels:", "  __name__: text"): [
        "line 5: table t, column __name__: __name__ is the metric: columns have `metric` for it"
    ],
    table("labels: {__name__: {type: text}}"): [
        "line 4: table t, column __name__: __name__ is the metric: columns have `metric` for it"
    ],
    table("labels: {a: text}"): [
        "line 4: table t, column a: a column of this name holds a metric: choose another name"
    ],
    table("ignoring: [l]", "labels: {l: text}"): [
        "line 5: table t, column l: label l is in `ignoring`, so it has no value in `sources`: "
        "remove it from one of them"
    ],
    table("ignoring: [l]", "labels: {k: {label: l}}"): [
        "line 5: table t, column k: label l is in `ignoring`, so it has no value in `sources`: "
        "remove it from one of them"
    ],
    table("match: {l: '['}"): [
        "line 4: table t: match l=[: must be a regular expression (RE2): missing ]: ["
    ],
    table("match: {l: '[\u00ad'}"): [
        r"line 4: table t: match l='[\xad': must be a regular expression (RE2): 'missing ]: [\xad'"
    ],
    table("match: {l: '[\u00a0'}"): [
        r"line 4: table t: match l='[\xa0': must be a regular expression (RE2): 'missing ]: [\xa0'"
    ],
    table("match: {l: 'a(?=b)'}"): [
        "line 4: table t: match l=a(?=b): must be a regular expression (RE2): invalid perl operator"
    ],
    table("pair_timeout: 0s"): ["line 4: table t: pair_timeout=0s: must be longer than 0s"],
    table("retention: 3m"): [
        "line 4: table t: retention=3m: must be 1h or longer (m is for minutes), or off"
    ],
    table().replace("  t:", "  t_now:") + table().partition("\n")[2]: [
        "line 2: table t_now: t_now is a name that belongs to table t: choose another name"
    ],
    column("metric: m, type: code, codes: t"): [
        "line 4: table t, column c: codes=t: it is a table of the file and holds rows: choose "
        "another name"
    ],
    column("metric: m, type: code, codes: t_intervals"): [
        "line 4: table t, column c: codes=t_intervals: t_intervals is a name that belongs to table "
        "t: choose another name"
    ],
}
"""Errors that no JSON schema can find; lines may continue."""


@pytest.mark.parametrize(("text", "faults"), [*SHAPES.items(), *VALUES.items()])
def test_what_is_wrong_is_reported_with_its_place(text: str, faults: list[str]) -> None:
    assert faults_of(text) == faults


@pytest.mark.parametrize(("text", "beginnings"), BEYOND.items())
def test_what_only_the_reader_finds(text: str, beginnings: list[str]) -> None:
    found = faults_of(text)
    for fault, beginning in zip(found, beginnings, strict=False):
        assert fault.startswith(beginning)
        assert fault.isprintable()
    assert len(found) >= len(beginnings)


def test_all_faults_are_reported_at_once_in_the_order_of_their_lines() -> None:
    text = """\
tables:
  sources:
    columns:
      a: {metric: m, type: flot}
      b: {metric: m, type: double, unit: seconds}
      b: {metric: n, type: double}
  t:
    match: {l: "["}
    columns:
      id: {metric: m, type: double, required: no}
      c:
  t_now: {}
other: 1
"""
    assert [fault.partition(":")[0] for fault in faults_of(text)] == [
        *("line 2", "line 4", "line 5", "line 5", "line 6", "line 8", "line 10", "line 10"),
        *("line 11", "line 12", "line 12", "line 13"),
    ]


def test_a_table_can_have_so_many_columns() -> None:
    columns = [f"      c{n}: {{metric: m{n}, type: double}}" for n in range(501)]
    head = "tables:\n  t:\n    columns:\n"
    assert faults_of(head + "\n".join(columns)) == [
        "line 3: table t: columns: has 501 columns, and a table can have 500: split it"
    ]
    assert parse_catalogue(head + "\n".join(columns[1:])).tables[0].width == 500


def tokens(text: str) -> list[str]:
    return re.findall(r"\s+|\w+|.", text)


@given(catalogues(), st.data())
def test_whatever_the_file_holds_is_read_or_refused_in_lines(
    declared: Declared, data: st.DataObject
) -> None:
    words = tokens(declared.text)
    for _ in range(data.draw(st.integers(1, 3))):
        place = data.draw(st.integers(0, len(words) - 1))
        other = st.sampled_from(words) | st.text(max_size=3) | st.just("")
        words[place] = data.draw(other)
    text = "".join(words)
    faults: tuple[str, ...] = ("f line 1: none",)
    try:
        parse_catalogue(text, "f")
    except TablesFileError as refused:
        faults = refused.faults
    assert faults
    assert all(re.match(r"f line \d+: .", fault) and fault.isprintable() for fault in faults)


# --- the schema -----------------------------------------------------------------------------------


@given(catalogues())
def test_the_schema_accepts_what_the_reader_accepts(declared: Declared) -> None:
    assert SCHEMA_JUDGE.accepts(yaml.safe_load(declared.text))


@pytest.mark.parametrize("text", [text for text in [*SHAPES, *VALUES] if text.strip("# nothig\n")])
def test_the_schema_refuses_what_it_can_express(text: str) -> None:
    assert not SCHEMA_JUDGE.accepts(yaml.safe_load(text))


# --- the setting ----------------------------------------------------------------------------------


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "tables.yaml"
    path.write_text(EXAMPLE)
    return path


def test_the_catalogue_of_the_settings(make_settings: MakeSettings, file: Path) -> None:
    settings = make_settings(tables_file=str(file), retention="3d", pair_timeout="1h")
    assert outline(settings.catalogue) == outline(read_catalogue(file, settings.durations))
    assert settings.catalogue is settings.catalogue
    assert settings.catalogue.by_name["app_logs"].retention == timedelta(days=3)


def test_without_a_file_it_is_made_of_the_settings(make_settings: MakeSettings) -> None:
    settings = make_settings(
        status_metric="s", ocr_metric="o", ocr_unit="milliseconds", compress_after="off"
    )
    assert outline(settings.catalogue) == outline(
        built_in("s", "o", "milliseconds", settings.durations)
    )
    assert settings.catalogue.by_name["app_logs"].compress_after is None


def test_a_copy_of_the_settings_has_a_catalogue_of_its_own(
    make_settings: MakeSettings, file: Path
) -> None:
    settings = make_settings(tables_file=str(file))
    assert len(settings.catalogue.tables) == 2
    assert len(settings.model_copy(update={"tables_file": None}).catalogue.tables) == 1


def test_a_worker_is_sent_settings_whose_catalogue_was_read(
    make_settings: MakeSettings, file: Path
) -> None:
    settings = make_settings(tables_file=str(file))
    assert outline(settings.catalogue) == outline(pickle.loads(pickle.dumps(settings)).catalogue)


@pytest.mark.parametrize("name", ["status_metric", "ocr_metric", "ocr_unit"])
def test_settings_of_the_built_in_table_are_refused_beside_a_file(
    name: str, make_settings: MakeSettings, file: Path
) -> None:
    fault = rf"^RECEIVER_{name.upper()}=milliseconds: has no effect with RECEIVER_TABLES_FILE: "
    with pytest.raises(SettingsError, match=fault):
        make_settings(tables_file=str(file), **{name: "milliseconds"})


def test_a_file_that_cannot_be_read(make_settings: MakeSettings, tmp_path: Path) -> None:
    settings = make_settings(tables_file=str(tmp_path / "none.yaml"))
    with pytest.raises(SettingsError, match=r"^cannot read .*none.yaml: No such file"):
        _ = settings.catalogue


def test_a_file_that_is_too_large(tmp_path: Path) -> None:
    path = tmp_path / "tables.yaml"
    path.write_text("#" * (2**20 + 1))
    with pytest.raises(SettingsError, match="is larger than 1 MiB"):
        read_catalogue(path)


def test_a_file_of_an_editor_on_windows(tmp_path: Path) -> None:
    path = tmp_path / "tables.yaml"
    path.write_bytes(b"\xff\xfe" + EXAMPLE.replace("\n", "\r\n").encode("utf-16-le"))
    assert outline(read_catalogue(path)) == outline(parse_catalogue(EXAMPLE))
