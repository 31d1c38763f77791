"""How the values of settings are written: durations, sizes, addresses, URLs, tokens."""

from __future__ import annotations

import re
from datetime import timedelta
from typing import Annotated
from urllib.parse import parse_qsl, urlsplit

from annotated_types import Ge, Gt
from pydantic import AfterValidator, BeforeValidator, ByteSize, SecretStr

DURATION = re.compile(r"(?:(\d+(?:\.\d+)?)(ms|[smhdwy]))")
HOST = r"(?:\[[^\[\]]*\]|[^:\[\]]*)(?::\d*)?"
SHORTEST_AGE = timedelta(hours=1)
UNITS = {
    "ms": timedelta(milliseconds=1),
    "s": timedelta(seconds=1),
    "m": timedelta(minutes=1),
    "h": timedelta(hours=1),
    "d": timedelta(days=1),
    "w": timedelta(weeks=1),
    "y": timedelta(days=365),
}


def parse_duration(value: object) -> object:
    """Read a duration in Prometheus' notation, such as `5s`, `1h30m` or `250ms`.

    Raises:
        ValueError: the text is not such a duration.
    """
    if not isinstance(value, str):
        return value
    if not re.fullmatch(rf"(?:{DURATION.pattern})+", value):
        raise ValueError("must be a duration such as 250ms, 5s, 1h30m or 7d")
    try:
        return sum((float(n) * UNITS[unit] for n, unit in DURATION.findall(value)), timedelta())
    except OverflowError:
        raise ValueError("is longer than any time there is") from None


def parse_age(value: object) -> object:
    """Read the age at which something is done to rows, or `off` for never.

    Raises:
        ValueError: the text is neither, or so short that it must be a mistake: 3m for 3 months.
    """
    if value == "off":
        return None
    try:
        age = parse_duration(value)
    except ValueError as error:
        raise ValueError(f"{error}, or off") from None
    if isinstance(age, timedelta) and age < SHORTEST_AGE:
        raise ValueError("must be 1h or longer (m is for minutes), or off")
    return age


def parse_lead(value: object) -> object:
    """Read how far something may lie ahead, or `off` for any time.

    Raises:
        ValueError: the text is neither a duration nor `off`.
    """
    if value == "off":
        return None
    try:
        return parse_duration(value)
    except ValueError as error:
        raise ValueError(f"{error}, or off") from None


def parse_count(value: object) -> object:
    """Read a number of things, or `off` for any number."""
    return None if value == "off" else value


def parse_address(value: str) -> str:
    """Check that a listen address is HOST:PORT.

    Raises:
        ValueError: the text is not HOST:PORT.
    """
    host, colon, port = value.rpartition(":")
    if not (colon and host and port.isdecimal() and int(port) < 65536):
        raise ValueError("must be HOST:PORT, such as 127.0.0.1:9201 or [::1]:9201")
    return value


def parse_metric(value: str) -> str:
    """Check that a metric name can be one.

    Raises:
        ValueError: the name is empty.
    """
    if not value:
        raise ValueError("must be the name of a metric")
    return value


def check_database_url(url: SecretStr) -> SecretStr:
    """Check that a URL's parts are where they should be.

    Raises:
        ValueError: they are not; the message shows nothing of them, for a password is among them.
    """
    try:
        parts = urlsplit(url.get_secret_value())
        parse_qsl(parts.query, strict_parsing=bool(parts.query))
        hosts = parts.netloc.rpartition("@")[2].split(",")
    except ValueError:
        hosts = ["::"]
    if not all(re.fullmatch(HOST, host) for host in hosts):
        raise ValueError(
            "must be postgresql://USER:PASSWORD@HOST:PORT/DATABASE; a password that has any of "
            "/ ? # [ ] belongs into RECEIVER_DATABASE_PASSWORD"
        )
    return url


def has_password(url: str) -> bool:
    """Whether a database URL has its password in it; one that cannot be read may have."""
    try:
        parts = urlsplit(url)
        return parts.password is not None or "password" in dict(parse_qsl(parts.query))
    except ValueError:
        return True


def check_tokens(tokens: SecretStr) -> SecretStr:
    """Check that each line is a token that a header can carry.

    Raises:
        ValueError: one is not; the message shows nothing of it.
    """
    lines = [line.strip() for line in tokens.get_secret_value().splitlines()]
    if not any(lines) or not all(re.fullmatch(r"[!-~]*", line) for line in lines):
        raise ValueError("must be a token without spaces, or several, one a line")
    return tokens


Duration = Annotated[timedelta, BeforeValidator(parse_duration), Ge(timedelta(0))]
PositiveDuration = Annotated[Duration, Gt(timedelta(0))]
Age = Annotated[timedelta | None, BeforeValidator(parse_age)]
Lead = Annotated[timedelta | None, BeforeValidator(parse_lead)]
Count = Annotated[int | None, Gt(0), BeforeValidator(parse_count)]
Size = Annotated[ByteSize, Gt(0)]
Address = Annotated[str, AfterValidator(parse_address)]
DatabaseURL = Annotated[SecretStr, AfterValidator(check_database_url)]
Tokens = Annotated[SecretStr, AfterValidator(check_tokens)]
MetricName = Annotated[str, AfterValidator(parse_metric)]
