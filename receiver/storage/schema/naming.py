"""Makes names that are unused, and that PostgreSQL does not truncate."""

from __future__ import annotations

from receiver.config.table_names import MAX_COLUMN


def unused(taken: set[str], name: str, suffix: str = "") -> str:
    """Return an unused name, made of a name and a suffix, and add it to `taken`."""
    number = 1
    while True:
        ending = suffix if number == 1 else f"{suffix}_{number}"
        new = cut(name, MAX_COLUMN - len(ending)) + ending
        if new not in taken:
            taken.add(new)
            return new
        number += 1


def cut(name: str, size: int) -> str:
    """Truncate a name to at most `size` bytes."""
    return name.encode()[:size].decode(errors="ignore")
