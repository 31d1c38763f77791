"""No test stays in the list of those that cannot hold on Citus when it is gone."""

from __future__ import annotations

from pathlib import Path

from tests.not_on_citus import CANNOT_HOLD

TESTS = Path(__file__).parents[1]


def test_every_name_is_that_of_a_test() -> None:
    for names in CANNOT_HOLD.values():
        for name in names:
            file, _, test = name.partition("::")
            # A name that ends with colons is that of all tests of a file.
            definition = f"def {test.partition('[')[0]}(" if test else "def test_"
            assert definition in (TESTS / file).read_text(), name
