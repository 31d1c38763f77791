"""The classes of RECEIVER_TABLES_FILE, from which its schema and its reference are generated."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Annotated, Any, Final, Literal, TypeAlias, TypeVar, get_args

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationInfo,
    WithJsonSchema,
    field_validator,
)

from receiver.config.suggestions import did_you_mean
from receiver.config.table_names import (
    ERROR_CODES,
    MAX_COLUMN,
    MAX_TABLE,
    METRIC_LABEL,
    OWN_COLUMNS,
    OWN_TABLES,
    SYSTEM_COLUMNS,
    check_codes,
    check_column,
    check_label,
    check_table,
)
from receiver.config.value_types import Age, PositiveDuration, parse_metric
from receiver.config.yaml_tree import Plain
from receiver.rows.tables import compile_expression

TypeName: TypeAlias = Literal["code", "bigint", "double", "boolean", "timestamp"]
LabelType: TypeAlias = Literal["text", "bigint"]
Unit: TypeAlias = Literal["seconds", "milliseconds"]
T = TypeVar("T")
TYPES: Final[tuple[TypeName, ...]] = get_args(TypeName)

INSTEAD: Final = {
    "float": "double",
    "real": "double",
    "int": "bigint",
    "integer": "bigint",
    "bool": "boolean",
    "timestamptz": "timestamp",
    "counter": "double",
    "gauge": "double",
}
"""Names that a type has elsewhere."""
NO_SINGLE_VALUE: Final = {
    "histogram": "a histogram is no single value: declare its _count and _sum as columns, or "
    "record a quantile with a rule and declare that",
    "summary": "a summary is no single value: declare its _count and _sum as columns, or each "
    "quantile in a table of its own by `match`",
}
DURATION: Final = r"([0-9]+(\.[0-9]+)?(ms|[smhdwy]))+"


def one_of(words: Sequence[str]) -> str:
    """Say which words a value may be."""
    return f"must be {', '.join(words[:-1])} or {words[-1]}"


def read_type(value: object) -> object:
    """Refuse what is no type of a column, and say what could be meant.

    Raises:
        ValueError: it is none.
    """
    if not isinstance(value, str) or value in TYPES:
        return value
    word = value.lower()
    if word in NO_SINGLE_VALUE:
        raise ValueError(NO_SINGLE_VALUE[word])
    meant = INSTEAD.get(word)
    hint = f" (did you mean {meant}?)" if meant else did_you_mean(word, TYPES)
    raise ValueError(f"{one_of(TYPES)}{hint}")


def read_boolean(value: object) -> object:
    """Read `true` and `false`.

    Raises:
        ValueError: it is neither.
    """
    if isinstance(value, bool):
        return value
    if not isinstance(value, Plain) or value.lower() not in {"true", "false"}:
        raise ValueError("must be true or false, without quotes")
    return value.lower() == "true"


def read_label(value: object) -> object:
    """Take a mere type for a label that is called as its column is."""
    return {"type": value} if isinstance(value, str) else value


def check_metric(value: str) -> str:
    """Check the name of a metric.

    Raises:
        ValueError: no metric can have it.
    """
    if not value.isprintable():
        raise ValueError("must be the name of a metric, in printable text")
    return parse_metric(value)


def check_expression(value: str) -> str:
    """Check a regular expression.

    Raises:
        ValueError: it is none of RE2's; the message says why.
    """
    compile_expression(value)
    return value


def schema(**keywords: Any) -> WithJsonSchema:  # noqa: ANN401  JSON
    """Say what a text may be, as far as a JSON schema can say it."""
    # What YAML takes for a number or a boolean is text all the same.
    return WithJsonSchema({"type": ["string", "number", "boolean"], **keywords})


def key(longest: int, reserved: Iterable[str]) -> WithJsonSchema:
    """Say which names in the database a key may be."""
    return schema(type="string", minLength=1, maxLength=longest, **{"not": {"enum": [*reserved]}})


TableName = Annotated[str, AfterValidator(check_table), key(MAX_TABLE, [*OWN_TABLES, ERROR_CODES])]
CodesName = Annotated[str, AfterValidator(check_codes), schema(minLength=1, maxLength=MAX_TABLE)]
ColumnName = Annotated[
    str, AfterValidator(check_column), key(MAX_COLUMN, [*OWN_COLUMNS, *SYSTEM_COLUMNS])
]
LabelName = Annotated[
    str, AfterValidator(check_label), schema(minLength=1, **{"not": {"const": METRIC_LABEL}})
]
MetricName = Annotated[str, AfterValidator(check_metric), schema(pattern=r"^[^{}]+$")]
Expression = Annotated[str, AfterValidator(check_expression), schema()]
Boolean = Annotated[bool, BeforeValidator(read_boolean)]
Wait = Annotated[PositiveDuration, schema(type="string", pattern=rf"^{DURATION}$")]
RowAge = Annotated[Age, schema(type="string", pattern=rf"^({DURATION}|[Oo][Ff][Ff])$")]


def only_for(type_: TypeName, *keys: str) -> dict[str, Any]:
    """Write the JSON schema of keys that columns of other types do not have."""
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
        description="`code`: a whole number of 32 bits that a table explains; `bigint`: a whole "
        "number of 64 bits; `double`: a number; `boolean`: 0 or 1; `timestamp`: a Unix time."
    )
    codes: CodesName | None = Field(
        None,
        validate_default=True,
        description="For `code`: the table that says what the codes mean, shaped as "
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
    """Check that a column has the type that a key is for; one without a right type is let pass.

    Raises:
        ValueError: it has another one.
    """
    given = info.data.get("type", type_)
    if value is not None and given != type_:
        raise ValueError(f"is only for columns of type {type_}, and this one is a {given}")
    return value


class LabelEntry(Entry):
    """A column that holds the value of a label."""

    label: LabelName | None = Field(
        None, description="The label; by default the one that is called as the column."
    )
    type: LabelType = Field(
        "text", description="`text`, or `bigint` for a label whose values are whole numbers."
    )


class TableEntry(Entry):
    """A table, of which each row is a scrape of one source."""

    columns: dict[ColumnName, ColumnEntry] = Field(
        min_length=1,
        description="The columns that hold samples, by name; at least one of them is required.",
    )
    match: dict[LabelName, Expression] = Field(
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
    """Tables that receiver fills, and of which metrics."""

    tables: dict[TableName, TableEntry] = Field(min_length=1, description="The tables, by name.")
