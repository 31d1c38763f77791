"""Declared tables: the series that belong to them, and the values of their label columns."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from receiver.config.catalogue import built_in
from receiver.rows.columns import BIGINT, CODE, DOUBLE
from receiver.rows.model import Source
from receiver.rows.tables import (
    MAX_SHOWN,
    Catalogue,
    Column,
    LabelColumn,
    Table,
    Values,
    compile_expression,
    compile_match,
)
from tests import random_rows
from tests.random_rows import belongs


def double(name: str, *, required: bool = True) -> Column:
    return Column(name, name, DOUBLE, required=required)


# --- columns --------------------------------------------------------------------------------------


def test_required_columns_come_first_in_the_order_of_the_declaration() -> None:
    names = ["b", "d", "a", "c"]
    table = Table("t", [double(name, required=name in "ab") for name in names])
    assert [column.name for column in table.columns] == ["b", "a", "d", "c"]
    assert [column.slot for column in table.columns] == [0, 1, 2, 3]
    assert (table.required, table.width, table.optional) == (2, 4, True)
    assert table.empty == [None] * 4


@given(random_rows.tables(), st.data())
def test_a_row_lacks_a_required_column_only(table: Table, data: st.DataObject) -> None:
    values: Values = data.draw(
        st.tuples(*[st.sampled_from([None, 0.0, float("nan")])] * table.width).map(list)
    )
    assert table.lacks(values) == any(
        column.required and value is None
        for column, value in zip(table.columns, values, strict=True)
    )
    assert [column for column, _ in table.samples(values)] == [
        column for column in table.columns if values[column.slot] is not None
    ]
    assert all(values[column.slot] is value for column, value in table.samples(values))


def test_the_columns_of_codes_are_known() -> None:
    columns = [Column("s", "s", CODE, codes="states"), double("x"), Column("n", "n", BIGINT)]
    assert [column.name for column in Table("t", columns).codes] == ["s"]


# --- matching series ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("match", "labels", "expected"),
    [
        ({"job": "plc"}, {"job": "plc"}, True),
        ({"job": "plc"}, {"job": "plc2"}, False),
        ({"job": "plc"}, {"job": "a plc"}, False),
        ({"job": "a|b"}, {"job": "b"}, True),
        ({"job": "a|b"}, {"job": "ab"}, False),
        ({"job": "ab|a"}, {"job": "ab"}, True),
        ({"job": ""}, {}, True),
        ({"job": ""}, {"job": "a"}, False),
        ({"job": ".+"}, {}, False),
        ({"job": ".*"}, {}, True),
        ({"job": "a.b"}, {"job": "a\nb"}, True),
        ({"job": "a.b"}, {"job": "a가b"}, True),
        ({"job": "(?i)plc"}, {"job": "PLC"}, True),
        ({"job": "a", "line": "1|2"}, {"job": "a", "line": "2"}, True),
        ({"job": "a", "line": "1|2"}, {"job": "a", "line": "3"}, False),
        ({"job": "a", "line": "1|2"}, {"job": "a"}, False),
        ({"job": "x\0y"}, {"job": "x\0y"}, True),
    ],
)
def test_a_match_is_anchored_and_a_missing_label_is_empty(
    match: dict[str, str], labels: dict[str, str], expected: bool
) -> None:
    table = Table("t", [double("x")], match=match)
    assert table.matches is not None
    assert table.matches(labels) is expected


def test_a_table_without_a_match_asks_nothing() -> None:
    assert Table("t", [double("x")]).matches is None
    assert compile_match({})({}) is True


@given(random_rows.tables(), random_rows.label_sets)
def test_a_table_matches_what_the_model_says(table: Table, labels: dict[str, str]) -> None:
    found = table.matches is None or table.matches(labels)
    assert found == belongs(table, labels)


@pytest.mark.parametrize("expression", ["(", "a{2,1}", "(?=a)", r"(a)\1", "[z-a]", "*"])
def test_an_expression_that_is_not_of_re2_is_refused(
    expression: str, capfd: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(ValueError, match=r"must be a regular expression \(RE2\): .") as refusal:
        compile_expression(expression)
    assert "\n" not in str(refusal.value)
    assert capfd.readouterr() == ("", "")


def test_an_expression_takes_linear_time() -> None:
    """Python's `re` would take years."""
    assert compile_expression("(a*)*b")("a" * 5000) is None


# --- label columns --------------------------------------------------------------------------------

INTEGERS = [
    ("0", 0),
    ("-0", 0),
    ("+7", 7),
    ("007", 7),
    ("-3", -3),
    ("9223372036854775807", 2**63 - 1),
    ("-9223372036854775808", -(2**63)),
]


@pytest.mark.parametrize(("text", "number"), INTEGERS)
def test_a_label_that_is_a_whole_number(text: str, number: int) -> None:
    assert LabelColumn("machine", "machine", "bigint").read(text) == number


TOO_LARGE = ["9223372036854775808", "-9223372036854775809", "9" * 5000]
NO_NUMBERS = ["", "-", "+-1", "1_000", "1.0", "1e3", " 1", "1\n", "0x1", "一", "١"]


@pytest.mark.parametrize("text", [*TOO_LARGE, *NO_NUMBERS])
def test_a_label_that_does_not_fit_is_named(text: str) -> None:
    with pytest.raises(ValueError, match=r"does not fit column number \(bigint\)") as refusal:
        LabelColumn("number", "machine", "bigint").read(text)
    shown = re.escape(repr(text[:MAX_SHOWN]))
    assert re.match(f"label machine={shown} does not fit", str(refusal.value))
    assert len(str(refusal.value)) < 200


@given(st.text())
def test_a_text_column_holds_any_label(text: str) -> None:
    assert LabelColumn("line", "line", "text").read(text) == text


@given(random_rows.tables(), random_rows.label_sets)
def test_a_source_has_its_label_values_or_says_which_does_not_fit(
    table: Table, labels: dict[str, str]
) -> None:
    source = Source(table, tuple(sorted(labels.items())))
    misfits = [
        column.name
        for column in table.labels
        if column.type == "bigint"
        and column.label in labels
        and not (
            re.fullmatch(r"[+-]?[0-9]+", labels[column.label])
            and -(2**63) <= int(labels[column.label]) < 2**63
        )
    ]
    if misfits:
        assert f"does not fit column {misfits[0]} (bigint)" in (source.misfit or "")
        return
    assert source.misfit is None
    assert source.label_values == [
        int(labels[column.label])
        if column.label in labels and column.type == "bigint"
        else labels.get(column.label)
        for column in table.labels
    ]
    assert source.id is None


# --- catalogues -----------------------------------------------------------------------------------


@given(random_rows.catalogues())
def test_a_catalogue_knows_every_column_of_a_metric(catalogue: Catalogue) -> None:
    assert [table.name for table in catalogue.tables] == sorted(catalogue.by_name)
    columns = [(table, column) for table in catalogue.tables for column in table.columns]
    for metric, fed in catalogue.by_metric.items():
        assert list(fed) == [(table, one) for table, one in columns if one.metric == metric]
    assert sum(map(len, catalogue.by_metric.values())) == len(columns)
    assert catalogue.shares_metrics == (len(catalogue.by_metric) < len(columns))
    assert catalogue.code_tables == sorted({one.codes for _, one in columns if one.codes})


def test_tables_are_in_the_order_of_their_bytes() -> None:
    """Every transaction locks in this order, even if the database sorts by another collation."""
    names = ["b", "라인", "B", "a", "Z", "_"]
    catalogue = Catalogue([Table(name, [double("x")]) for name in names])
    assert [table.name for table in catalogue.tables] == ["B", "Z", "_", "a", "b", "라인"]
    assert [name.encode() for name in sorted(names)] == sorted(name.encode() for name in names)


def test_the_built_in_table_is_the_pair() -> None:
    (table,) = built_in().tables
    assert [(one.name, one.metric, one.required) for one in table.columns] == [
        ("app_status", "app_status", True),
        ("ocr_value", "ocr_value", True),
    ]
    assert not built_in().shares_metrics
    assert built_in().code_tables == ["error_codes"]
