"""Models of RECEIVER_TABLES_FILE, from which its JSON schema and its reference are generated."""

from __future__ import annotations

from typing import Annotated, Any, TypeVar

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationInfo, field_validator

from receiver.config.table_values import (
    Boolean,
    CodesName,
    ColumnName,
    Expression,
    LabelKey,
    LabelName,
    LabelType,
    MetricName,
    RowAge,
    TableName,
    TypeName,
    Unit,
    Wait,
    read_label,
    read_type,
)

T = TypeVar("T")


def only_for(type_: TypeName, *keys: str) -> dict[str, Any]:
    """Return a JSON schema that allows keys only for columns of one type."""
    return {
        "if": {"properties": {"type": {"const": type_}}, "required": ["type"]},
        "else": {"properties": dict.fromkeys(keys, False)},
    }


class Entry(BaseModel):
    """A mapping of the file."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class ColumnEntry(Entry):
    """A column that holds the samples of one metric."""

    model_config = ConfigDict(
        json_schema_extra={
            "allOf": [
                only_for("code", "codes") | {"then": {"required": ["codes"]}},
                only_for("timestamp", "unit"),
                only_for("double", "special"),
            ]
        }
    )

    metric: MetricName = Field(
        description="The metric whose samples the column holds.", examples=["press_pressure_bar"]
    )
    type: Annotated[TypeName, BeforeValidator(read_type)] = Field(
        description="`code`: a 32-bit integer, explained by a table of codes; `bigint`: a 64-bit "
        "integer; `double`: a number; `boolean`: 0 or 1; `timestamp`: a Unix time."
    )
    codes: CodesName | None = Field(
        None,
        validate_default=True,
        description="For `code`: the table that says what the codes mean, with the columns of "
        "`error_codes`; several columns may share one.",
        examples=["error_codes"],
    )
    unit: Unit | None = Field(
        None, description="For `timestamp`: the unit of the Unix time; `seconds` by default."
    )
    special: Boolean = Field(
        default=False, description="For `double`: whether NaN, +Inf and -Inf are values too."
    )
    required: Boolean = Field(
        default=True,
        description="Whether a row is written only when this metric has a sample; `false`: the "
        "column is NULL without one, and a sample that comes later fills it.",
    )

    @field_validator("codes")
    @classmethod
    def _check_codes(cls, value: str | None, info: ValidationInfo) -> str | None:
        if value is None and info.data.get("type") == "code":
            raise ValueError(
                "type code needs `codes`, the table that says what the codes mean, such as "
                "codes: error_codes"
            )
        return check_type(value, info, "code")

    @field_validator("unit")
    @classmethod
    def _check_unit(cls, value: str | None, info: ValidationInfo) -> str | None:
        return check_type(value, info, "timestamp")

    @field_validator("special")
    @classmethod
    def _check_special(cls, value: bool, info: ValidationInfo) -> bool:
        return check_type(value, info, "double")


def check_type(value: T, info: ValidationInfo, type_: TypeName) -> T:
    """Check that a column has the type that a key is for, unless its type is itself invalid.

    Raises:
        ValueError: the column has another type.
    """
    given = info.data.get("type", type_)
    if value is not None and given != type_:
        raise ValueError(f"is only for columns of type {type_}, and this one is a {given}")
    return value


class LabelEntry(Entry):
    """A column that holds the value of a label."""

    label: LabelName | None = Field(
        None, description="The label; by default the label with the same name as the column."
    )
    type: LabelType = Field(
        "text", description="`text`, or `bigint` for a label whose values are whole numbers."
    )


class TableEntry(Entry):
    """A table; each of its rows is a scrape of one source."""

    columns: dict[ColumnName, ColumnEntry] = Field(
        min_length=1,
        description="The columns that hold samples, by name; at least one of them is required.",
    )
    match: dict[LabelKey, Expression] = Field(
        {},
        min_length=1,
        description="Which series belong to the table: label: regular expression (RE2), which the "
        "whole value must match, as in PromQL; a label that is not there has an empty value. By "
        "default all series.",
        examples=[{"job": "plc", "line": "A|B"}],
    )
    ignoring: list[LabelName] = Field(
        [],
        min_length=1,
        description="Labels that do not tell rows apart, as in PromQL: metrics that differ in them "
        "alone make one row.",
        examples=[["sensor"]],
    )
    labels: dict[
        ColumnName,
        Annotated[
            LabelEntry,
            BeforeValidator(read_label, json_schema_input_type=LabelType | LabelEntry),
        ],
    ] = Field(
        {},
        min_length=1,
        description="Columns that hold values of labels, by name: a type, or a mapping with "
        "`label` and `type`.",
        examples=[{"line": "text", "press": {"label": "press_id", "type": "bigint"}}],
    )
    pair_timeout: Wait | None = Field(
        None,
        description="How long an incomplete row waits; RECEIVER_PAIR_TIMEOUT by default.",
        examples=["10m"],
    )
    compress_after: RowAge = Field(
        None,
        description="Age at which rows are compressed (TimescaleDB), or `off`; "
        "RECEIVER_COMPRESS_AFTER by default.",
        examples=["7d"],
    )
    retention: RowAge = Field(
        None,
        description="Age at which rows are deleted, or `off`; RECEIVER_RETENTION by default.",
        examples=["2y"],
    )


class TablesFile(Entry):
    """The tables that the receiver fills, and the metrics that fill them."""

    tables: dict[TableName, TableEntry] = Field(min_length=1, description="The tables, by name.")
