"""The list of tests that cannot pass on Citus names only tests that exist."""

from __future__ import annotations

from pathlib import Path

from tests.not_on_citus import CANNOT_HOLD

TESTS = Path(__file__).parents[1]


def test_every_name_is_that_of_a_test() -> None:
    for names in CANNOT_HOLD.values():
        for name in names:
            file, _, test = name.partition("::")
            # A name that ends with colons stands for all tests of a file.
            definition = f"def {test.partition('[')[0]}(" if test else "def test_"
            assert definition in (TESTS / file).read_text(), name
