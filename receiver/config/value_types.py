"""The value types of settings: durations, sizes, addresses, URLs, tokens."""

from __future__ import annotations

import re
from contextlib import suppress
from datetime import timedelta
from ipaddress import IPv6Address
from typing import Annotated

from annotated_types import Ge, Gt, Le
from pydantic import (
    AfterValidator,
    BeforeValidator,
    ByteSize,
    SecretStr,
    ValidationError,
    ValidatorFunctionWrapHandler,
    WrapValidator,
)

from receiver.config.database_url import parse_database_url

DURATION = re.compile(r"(?:([0-9]+(?:\.[0-9]+)?)(ms|[smhdwy]))")
BLANKS = "\ufeff \t\r\n\v\f\u00a0\u3000"
"""Characters that editors, shells and copied text leave around a value."""
SHORTEST_AGE = timedelta(hours=1)
LONGEST = timedelta(days=365_000)
"""Maximum duration: Python and PostgreSQL can represent dates that far from the present."""
SIZES = {"EiB": 2**60, "GiB": 2**30, "MiB": 2**20, "KiB": 2**10}
UNITS = {
    "ms": timedelta(milliseconds=1),
    "s": timedelta(seconds=1),
    "m": timedelta(minutes=1),
    "h": timedelta(hours=1),
    "d": timedelta(days=1),
    "w": timedelta(weeks=1),
    "y": timedelta(days=365),
}


def tidy(value: object, *, one_line: bool = True, may_be_quoted: bool = False) -> object:
    """Remove blanks around a value, and refuse control characters and misplaced quotes.

    Args:
        value: The given value; it is returned unchanged if it is not text.
        one_line: Whether line breaks and other control characters are refused.
        may_be_quoted: Whether surrounding quotes may be part of the value, as in a password.

    Raises:
        ValueError: the value has control characters, or surrounding quotes, which docker's
                `--env-file` and YAML keep.
    """
    if not isinstance(value, str):
        return value
    text = value.strip(BLANKS)
    if one_line and re.search(r"[\x00-\x1f\x7f-\x9f]", text):
        raise ValueError("must be one line, without control characters")
    if not may_be_quoted and len(text) > 1 and text[0] == text[-1] and text[0] in "\"'":
        raise ValueError("must not have quotes around it")
    return text


def is_unicode_text(value: str) -> bool:
    """Return whether a text was decoded without errors; these leave lone surrogates."""
    return not re.search("[\ud800-\udfff]", value)


def parse_duration(value: object) -> object:
    """Read a duration in Prometheus' format, such as `5s`, `1h30m` or `250ms`.

    Raises:
        ValueError: the text is not such a duration, or is longer than 1000 years.
    """
    if not isinstance(value, str):
        return value
    if not re.fullmatch(rf"(?:{DURATION.pattern})+", value):
        raise ValueError("must be a duration such as 250ms, 5s, 1h30m or 7d")
    try:
        parts = (float(number) * UNITS[unit] for number, unit in DURATION.findall(value))
        duration = sum(parts, timedelta())
    except OverflowError:
        duration = timedelta.max
    if duration > LONGEST:
        raise ValueError("must be a duration of 1000y or less")
    return duration


def write_duration(duration: timedelta) -> str:
    """Write a duration in Prometheus' format, in the largest unit that makes it whole."""
    for unit in ("d", "h", "m", "s") if duration else ("s",):
        if not duration % UNITS[unit]:
            return f"{duration // UNITS[unit]}{unit}"
    return f"{duration // UNITS['ms']}ms"


def parse_age(value: object) -> object:
    """Read an age of rows, or `off` for never.

    Raises:
        ValueError: the age is malformed, or too short to be meant, such as 3m for 3 months.
    """
    if isinstance(value, str) and value.lower() == "off":
        return None
    try:
        age = parse_duration(value)
    except ValueError as error:
        raise ValueError(f"{error}, or off") from None
    if isinstance(age, timedelta) and age < SHORTEST_AGE:
        raise ValueError("must be 1h or longer (m is for minutes), or off")
    return age


def parse_off(value: object) -> object:
    """Read `off` as no limit; other values are not changed."""
    return None if isinstance(value, str) and value.lower() == "off" else value


def parse_lead(value: object) -> object:
    """Read a maximum lead, or `off` for no limit.

    Raises:
        ValueError: the text is neither a duration nor `off`.
    """
    lead = parse_off(value)
    try:
        return parse_duration(lead)
    except ValueError as error:
        raise ValueError(f"{error}, or off") from None


def complete_unit(value: object) -> object:
    """Replace the units of Kubernetes, such as `16Mi`, by those of `ByteSize`."""
    return re.sub(r"(?i)(?<=[kmgt]i)$", "B", value) if isinstance(value, str) else value


def write_size(size: int) -> str:
    """Write a size in the largest unit that makes it a whole number."""
    for unit, factor in SIZES.items():
        if not size % factor:
            return f"{size // factor}{unit}"
    return str(size)


def fold_case(value: object, validate: ValidatorFunctionWrapHandler) -> object:
    """Read a choice regardless of case; messages show an invalid one as given."""
    if isinstance(value, str):
        with suppress(ValidationError):
            return validate(value.lower())
    return validate(value)


def parse_address(value: str) -> str:
    """Check that a listen address is HOST:PORT, an IPv6 host in brackets.

    Raises:
        ValueError: the address has another form.
    """
    host, colon, port = value.rpartition(":")
    if not (colon and is_host(host) and re.fullmatch("[0-9]{1,5}", port) and int(port) < 65536):
        raise ValueError(
            "must be HOST:PORT, such as 127.0.0.1:9201, [::1]:9201 or, for all addresses, "
            "0.0.0.0:9201"
        )
    return value


def is_host(text: str) -> bool:
    """Return whether a text can be a name or an address to listen on."""
    if text.startswith("[") and text.endswith("]"):
        try:
            return bool(IPv6Address(text[1:-1]))
        except ValueError:
            return False
    try:
        # Empty or too long labels would raise UnicodeError in the resolver.
        return bool(re.fullmatch(r"[\w.-]+", text)) and bool(text.encode("idna"))
    except UnicodeError:
        return False


def parse_metric(value: str) -> str:
    """Check that a metric can have this name; Prometheus 3 allows nearly any text.

    Raises:
        ValueError: the name is empty, or a selector.
    """
    if not value or re.search(r"[{}]", value):
        raise ValueError("must be the name of a metric, such as app_status, without any {labels}")
    return value


def check_database_url(url: SecretStr) -> SecretStr:
    """Check that a URL is well-formed.

    Raises:
        ValueError: it is not; the message shows no part of it, since any may be the password.
    """
    parse_database_url(url.get_secret_value())
    return url


def has_password(url: str) -> bool:
    """Return whether a database URL has a password, or is malformed and so may have one."""
    try:
        return bool(parse_database_url(url).password)
    except ValueError:
        return True


def check_tokens(tokens: SecretStr) -> SecretStr:
    """Check that each line is a token that a header can hold.

    Raises:
        ValueError: a line is not; the message does not show it.
    """
    lines = [line.strip() for line in tokens.get_secret_value().splitlines()]
    if not any(lines) or not all(re.fullmatch(r"[!-~]*", line) for line in lines):
        raise ValueError("must be a token without spaces, or several, one per line")
    return tokens


def check_hosts(value: str) -> str:
    """Check that a text is a list of host names, separated by commas or blanks.

    Raises:
        ValueError: one of them is not a host name.
    """
    names = value.replace(",", " ").split()
    if not names or not all(re.fullmatch(r"[\w-]+(\.[\w-]+)*", name, re.ASCII) for name in names):
        raise ValueError(
            "must be a name such as receiver.example.com, without scheme and port, "
            "or several, separated by commas"
        )
    return value


def check_template(value: str) -> str:
    """Check that a text has at least one label in braces, and no other braces.

    Raises:
        ValueError: it has not, or is not printable.
    """
    rest = re.sub(r"\{[a-zA-Z_][a-zA-Z0-9_]*\}", "", value)
    if rest == value or "{" in rest or "}" in rest or not value.isprintable():
        raise ValueError("must have labels in braces, such as {line} {instance}")
    return value


Duration = Annotated[timedelta, BeforeValidator(parse_duration), Ge(timedelta(0))]
PositiveDuration = Annotated[Duration, Gt(timedelta(0))]
Age = Annotated[timedelta | None, BeforeValidator(parse_age)]
Lead = Annotated[timedelta | None, BeforeValidator(parse_lead)]
Size = Annotated[ByteSize, BeforeValidator(complete_unit), Ge(1), Le(2**60)]
# This setting used to be a number of series; such a number is refused, not read as bytes.
CacheSize = Annotated[ByteSize, BeforeValidator(complete_unit), Ge(2**20), Le(2**60)]
Count = Annotated[int, Ge(1), Le(10**9)]
Limit = Annotated[int | None, Ge(1), Le(10**9), BeforeValidator(parse_off)]
Word = WrapValidator(fold_case)
Address = Annotated[str, AfterValidator(parse_address)]
DatabaseURL = Annotated[SecretStr, AfterValidator(check_database_url)]
Tokens = Annotated[SecretStr, AfterValidator(check_tokens)]
HostNames = Annotated[str, AfterValidator(check_hosts)]
MetricName = Annotated[str, AfterValidator(parse_metric)]
Template = Annotated[str, AfterValidator(check_template)]
