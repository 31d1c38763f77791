"""Value types of RECEIVER_TABLES_FILE, for its reader and its JSON schema."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Annotated, Any, Final, Literal, TypeAlias, get_args

from pydantic import AfterValidator, BeforeValidator, WithJsonSchema

from receiver.config.explaining import one_of
from receiver.config.suggestions import did_you_mean
from receiver.config.table_names import (
    APP_LOGS,
    ERROR_CODES,
    MAX_COLUMN,
    MAX_TABLE,
    METRIC_LABEL,
    OWN_COLUMNS,
    OWN_PREFIXES,
    OWN_TABLES,
    SYSTEM_COLUMNS,
    SYSTEM_PREFIX,
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
"""Names that types have in other systems, and the types that they stand for."""
NO_SINGLE_VALUE: Final = {
    "histogram": "a histogram is not a single value: declare its _count and _sum as columns, or "
    "record a quantile with a rule and declare that",
    "summary": "a summary is not a single value: declare its _count and _sum as columns, or each "
    "quantile in a table of its own by `match`",
}
DURATION: Final = r"([0-9]+(\.[0-9]+)?(ms|[smhdwy]))+"


def read_type(value: object) -> object:
    """Refuse a text that is not a column type, and suggest one.

    Raises:
        ValueError: the text is not a column type.
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
        ValueError: the value is neither.
    """
    if isinstance(value, bool):
        return value
    if not isinstance(value, Plain) or value.lower() not in {"true", "false"}:
        raise ValueError("must be true or false, without quotes")
    return value.lower() == "true"


def read_label(value: object) -> object:
    """Expand a bare type to a mapping; its label then has the name of the column."""
    return {"type": value} if isinstance(value, str) else value


def check_metric(value: str) -> str:
    """Check the name of a metric.

    Raises:
        ValueError: no metric can have this name.
    """
    if not value.isprintable():
        raise ValueError("must be the name of a metric, in printable text")
    return parse_metric(value)


def check_expression(value: str) -> str:
    """Check a regular expression.

    Raises:
        ValueError: the expression is not valid RE2; the message says why.
    """
    compile_expression(value)
    return value


def schema(**keywords: Any) -> WithJsonSchema:  # noqa: ANN401  JSON
    """Return the JSON schema of a text, with the rules that such a schema can express."""
    # A value that YAML reads as a number or a boolean is text here, too.
    return WithJsonSchema({"type": ["string", "number", "boolean"], **keywords})


def key(longest: int, reserved: Iterable[str], prefixes: Sequence[str] = ()) -> WithJsonSchema:
    """Return the JSON schema of a key that is a name in the database."""
    others = [{"enum": [*reserved]}, *({"pattern": f"^{prefix}"} for prefix in prefixes)]
    name = {"minLength": 1, "maxLength": longest, "not": {"anyOf": others}}
    return WithJsonSchema({"type": "string", **name})


TableName = Annotated[
    str,
    AfterValidator(check_table),
    key(MAX_TABLE, [*OWN_TABLES, ERROR_CODES], [*OWN_PREFIXES, SYSTEM_PREFIX]),
]
CodesName = Annotated[
    str,
    AfterValidator(check_codes),
    schema(minLength=1, maxLength=MAX_TABLE, **{"not": {"enum": [*OWN_TABLES, APP_LOGS]}}),
]
ColumnName = Annotated[
    str, AfterValidator(check_column), key(MAX_COLUMN, [*OWN_COLUMNS, *SYSTEM_COLUMNS])
]
LabelKey = Annotated[
    str,
    AfterValidator(check_label),
    schema(type="string", minLength=1, **{"not": {"const": METRIC_LABEL}}),
]
LabelName = Annotated[
    str, AfterValidator(check_label), schema(minLength=1, **{"not": {"const": METRIC_LABEL}})
]
MetricName = Annotated[str, AfterValidator(check_metric), schema(pattern=r"^[^{}]+$")]
Expression = Annotated[str, AfterValidator(check_expression), schema()]
Boolean = Annotated[bool, BeforeValidator(read_boolean)]
Wait = Annotated[PositiveDuration, schema(type="string", pattern=rf"^{DURATION}$")]
RowAge = Annotated[Age, schema(type="string", pattern=rf"^({DURATION}|[Oo][Ff][Ff])$")]
