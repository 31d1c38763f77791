"""The content of a credentials file; no error message shows its secrets."""

from __future__ import annotations

from hashlib import sha256
from pathlib import Path

import bcrypt
import pytest

from receiver.errors import SettingsError
from receiver.security.credentials import Credentials, read_credentials
from tests.conftest import MakeSettings

# With a fixed salt, as the hash is part of test names.
HASH = bcrypt.hashpw(b"hunter2", b"$2b$04$T2W5iiVo4mfy3pkDQOR02u")
DIGEST = sha256(b"token").hexdigest()
BOTH = f"basic_auth_users:\n  on: {HASH.decode()}\nbearer_tokens: [{DIGEST}]\n"


def read(make_settings: MakeSettings, text: str | bytes, token: str | None = None) -> Credentials:
    file = Path("credentials.yml")
    file.write_bytes(text if isinstance(text, bytes) else text.encode())
    return read_credentials(make_settings(credentials_file=file, bearer_token=token))


def test_both_kinds(make_settings: MakeSettings) -> None:
    found = read(make_settings, BOTH)
    assert found == Credentials({"on": HASH}, (bytes.fromhex(DIGEST),))


def test_tokens_of_the_settings_are_kept_as_digests_only(make_settings: MakeSettings) -> None:
    found = read(make_settings, BOTH, "hunter2\nhunter3")
    assert found.tokens == tuple(
        sha256(token).digest() for token in (b"hunter2", b"hunter3", b"token")
    )
    assert "hunter" not in repr(found)


@pytest.mark.parametrize(
    "text",
    [
        f"bearer_tokens: [{DIGEST.upper()}]\nbasic_auth_users:\n",
        f"bearer_tokens:\nbasic_auth_users: {{이름: {HASH.decode().replace('$2b', '$2y')}}}\n",
        f"bearer_tokens:\n- {'1' * 64}\n",
    ],
)
def test_other_ways_to_write_it(make_settings: MakeSettings, text: str) -> None:
    assert any(read(make_settings, text))


OTHER = sha256(b"other").hexdigest()


@pytest.mark.parametrize(
    ("text", "names", "tokens"),
    [
        (f"{BOTH}bearer_tokens:\n- {OTHER}\n", {"on"}, 2),
        (f"{BOTH}bearer_tokens: [{DIGEST}]\n", {"on"}, 2),
        (f"{BOTH}basic_auth_users:\n  b: {HASH.decode()}\n", {"on", "b"}, 1),
        (f"{BOTH}basic_auth_users: {{b: {HASH.decode()}}}\n", {"on", "b"}, 1),
        (f"{BOTH}'bearer_tokens':\n- {OTHER}\n", {"on"}, 2),
        (f"{BOTH}bearer_tokens:\nbasic_auth_users:\n", {"on"}, 1),
        (f"bearer_tokens:\n{BOTH}", {"on"}, 1),
        (f"{BOTH}{BOTH.replace('on', 'b')}{BOTH.replace('on', 'c')}", {"on", "b", "c"}, 3),
    ],
)
def test_what_is_appended_counts_as_well(
    make_settings: MakeSettings, text: str, names: set[str], tokens: int
) -> None:
    found = read(make_settings, text)
    assert found.users.keys() == names
    assert len(found.tokens) == tokens


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        (BOTH + BOTH, "line 5: has the same name as line 2; remove one of the two"),
        (f"basic_auth_users:\n  a: {HASH.decode()}\n  'a': hunter2\n", "line 3: has the same name"),
        (f"{BOTH}bearer_tokens: hunter2\n", "line 4: has the same name as line 3"),
        (f"{BOTH}bearer_tokens: {{a: b}}\n", "line 4: has the same name as line 3"),
        ("hunter2: a\nhunter2: b\n", "line 2: has the same name as line 1"),
        ("? [hunter2]\n: a\n? [hunter2]\n: a\n", "line 1: is not YAML"),
        ("", "has no credentials"),
        ("bearer_tokens: []\n", "has no credentials"),
        ("hunter2", "must be a mapping, with a line `name: …`"),
        ("- hunter2", "must be a mapping"),
        ("bearer_tokens: [hunter2]", "bearer_tokens entry 1: must be a SHA-256 digest"),
        ("bearer_tokens: hunter2", "bearer_tokens: must be a list"),
        (
            "basic_auth_users: {prometheus: hunter2}",
            "basic_auth_users prometheus: must be a bcrypt",
        ),
        ("basic_auth_users: hunter2", "basic_auth_users: must be a mapping"),
        (f"basic_auth_users: {{'a:b': {HASH.decode()}}}", "must not have a colon"),
        (
            f"{BOTH}tokens: [hunter2]\n",
            "tokens: is not a key of the file (did you mean bearer_tokens?)",
        ),
        ("bearer_tokens: [*hunter2]", "line 1: is not YAML"),
        ("a: b\n  hunter2: [", "line 2: cannot have a `:` here: check the indentation"),
        ("basic_auth_users:\n\thunter2: a\n", "line 2: has a tab: use spaces"),
        ('bearer_tokens:\n- "hunter2\n', "line 2: a quotation mark is not closed"),
        ("hunter2: \x00", "is not YAML"),
        ("[" * 1000, "is not YAML"),
        (b"hunter2 \xff", "is not text"),
    ],
)
def test_a_fault_is_named_and_no_value_shown(
    make_settings: MakeSettings, text: str | bytes, fault: str
) -> None:
    with pytest.raises(SettingsError) as refusal:
        read(make_settings, text)
    message = str(refusal.value)
    assert message.startswith("RECEIVER_CREDENTIALS_FILE=credentials.yml")
    assert fault in message
    assert "\n" not in message
    assert "hunter2" not in message
    assert refusal.value.__suppress_context__ or refusal.value.__context__ is None


@pytest.mark.parametrize(("name", "fault"), [("none", "No such file"), (".", "Is a directory")])
def test_a_file_that_cannot_be_read(make_settings: MakeSettings, name: str, fault: str) -> None:
    with pytest.raises(SettingsError, match=f"RECEIVER_CREDENTIALS_FILE={name}: .*{fault}"):
        read_credentials(make_settings(credentials_file=name))
