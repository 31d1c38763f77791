"""An entry is added to a credentials file as by hand; everything else is preserved."""

from __future__ import annotations

from hashlib import sha256

import bcrypt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from receiver.errors import SettingsError
from receiver.security.credentials import parse_text
from receiver.security.insertion import Entry, insert

HASH = bcrypt.hashpw(b"hunter2", b"$2b$04$T2W5iiVo4mfy3pkDQOR02u").decode()
ONE, TWO, NEW = (sha256(word).hexdigest() for word in (b"one", b"two", b"new"))
WORDS = {"ONE": ONE, "TWO": TWO, "NEW": NEW, "HASH": HASH}


def full(text: str) -> str:
    for word, value in WORDS.items():
        text = text.replace(word, value)
    return text


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("", "bearer_tokens:\n- NEW\n"),
        ("# nobody", "# nobody\nbearer_tokens:\n- NEW\n"),
        (
            "# ours\nbearer_tokens:\n  - ONE  # first\n# end\n",
            "# ours\nbearer_tokens:\n  - ONE  # first\n  - NEW\n# end\n",
        ),
        (
            "bearer_tokens:\n- ONE\n\nbasic_auth_users:\n  a: HASH",
            "bearer_tokens:\n- ONE\n- NEW\n\nbasic_auth_users:\n  a: HASH",
        ),
        ("bearer_tokens:\n- ONE", "bearer_tokens:\n- ONE\n- NEW\n"),
        ("bearer_tokens:\r\n- ONE\r\n", "bearer_tokens:\r\n- ONE\r\n- NEW\r\n"),
        ("\ufeffbearer_tokens:\n- ONE\n", "\ufeffbearer_tokens:\n- ONE\n- NEW\n"),
        ("bearer_tokens: [ONE, TWO] # x\n", "bearer_tokens: [ONE, TWO, NEW] # x\n"),
        ("bearer_tokens: [ONE,]\n", "bearer_tokens: [ONE, NEW,]\n"),
        ("bearer_tokens: []\n", "bearer_tokens: [NEW]\n"),
        ("bearer_tokens: # none\n", "bearer_tokens: # none\n  - NEW\n"),
        ("bearer_tokens:\n- ONE\n...\n", "bearer_tokens:\n- ONE\n- NEW\n...\n"),
        (
            "bearer_tokens:\n- ONE\nbearer_tokens:\n- TWO\n",
            "bearer_tokens:\n- ONE\nbearer_tokens:\n- TWO\n- NEW\n",
        ),
        ('{"bearer_tokens": ["ONE"]}', '{"bearer_tokens": ["ONE", NEW]}'),
        # No line can be added here, so the file is rewritten.
        ("{basic_auth_users: {a: HASH}}", "basic_auth_users:\n  a: HASH\nbearer_tokens:\n- NEW\n"),
    ],
)
def test_a_token(before: str, after: str) -> None:
    assert insert(full(before), [NEW], "file") == full(after)


@pytest.mark.parametrize(
    ("name", "before", "after"),
    [
        ("b", "", "basic_auth_users:\n  b: HASH\n"),
        (
            "b",
            "basic_auth_users:\n    a: HASH # a's\n\n# end\n",
            "basic_auth_users:\n    a: HASH # a's\n    b: HASH\n\n# end\n",
        ),
        ("b", "basic_auth_users: {a: HASH}\n", "basic_auth_users: {a: HASH, b: HASH}\n"),
        ("a, b", "basic_auth_users: {}\n", "basic_auth_users: {'a, b': HASH}\n"),
        ("이름", "bearer_tokens: [ONE]", "bearer_tokens: [ONE]\nbasic_auth_users:\n  이름: HASH\n"),
        ("on", "", "basic_auth_users:\n  'on': HASH\n"),
    ],
)
def test_a_user(name: str, before: str, after: str) -> None:
    assert insert(full(before), {name: HASH}, "file") == full(after)


@pytest.mark.parametrize(
    "before", ["basic_auth_users:\n  'a': HASH\n", "basic_auth_users: {a: HASH}"]
)
def test_a_name_that_is_there_is_refused(before: str) -> None:
    with pytest.raises(SettingsError, match="file: has a user 'a' already"):
        insert(full(before), {"a": HASH}, "file")


@pytest.mark.parametrize("before", ["hunter2", "- hunter2", "bearer_tokens: [hunter2]", "a: ["])
def test_a_broken_file_is_not_made_worse(before: str) -> None:
    with pytest.raises(SettingsError, match=r"^file") as refusal:
        insert(before, [NEW], "file")
    assert "hunter2" not in str(refusal.value)


NAMES = st.text(min_size=1).filter(lambda name: name.isprintable() and ":" not in name)


@given(st.lists(NAMES, unique=True), st.booleans(), st.data())
def test_whatever_the_order_everything_is_there(
    names: list[str], flow: bool, data: st.DataObject
) -> None:
    entries: list[Entry] = [{name: HASH} for name in names]
    entries += [[ONE], [TWO], [NEW]]
    text = "basic_auth_users: {}\nbearer_tokens: []\n" if flow else "# ours\n"
    for entry in data.draw(st.permutations(entries)):
        text = insert(text, entry, "file")
    found = parse_text(text, "file")
    assert found.basic_auth_users == dict.fromkeys(names, HASH)
    assert sorted(found.bearer_tokens) == sorted([ONE, TWO, NEW])
