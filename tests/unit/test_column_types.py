"""Every type that a table may declare is known wherever its values are written or read."""

from __future__ import annotations

from typing import get_args

import pytest

from receiver.commands.export import parquet_schema
from receiver.config.table_values import TypeName
from receiver.rows.columns import UNITS
from receiver.storage.reading.series_values import FORMS, name_of
from receiver.storage.writing.copying import TYPES
from tests.tables import catalogue

MORE = {"code": [", codes: some_codes"], "timestamp": [f", unit: {unit}" for unit in UNITS]}


@pytest.mark.parametrize("name", get_args(TypeName))
def test_a_type_that_may_be_declared_is_written_and_read(name: str) -> None:
    for more in MORE.get(name, [""]):
        (table,) = catalogue(
            f"tables: {{some: {{columns: {{value: {{metric: one, type: {name}{more}}}}}}}}}"
        ).tables
        (column,) = table.columns
        assert column.type.sql in TYPES
        assert name_of(column) in FORMS
        assert "value" in parquet_schema(table).names
