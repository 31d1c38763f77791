"""Reads the database's URL as libpq does, since providers issue URLs for libpq.

Parameters without any effect are ignored, and reported so that they can be logged. Parameters that
are neither used nor ignored are passed on as settings of the server, which refuses unknown ones.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final
from urllib.parse import unquote

SCHEMES: Final = frozenset({"postgresql", "postgres"})

SHAPE: Final = (
    "must be postgresql://USER:PASSWORD@HOST:PORT/DATABASE; a password that has any of "
    "/ ? # [ ] belongs in RECEIVER_DATABASE_PASSWORD"
)
SCHEME: Final = re.compile(r"(?:jdbc:)?[a-z][a-z0-9+.-]*")
HOST: Final = re.compile(r"(?P<host>\[[^\[\]]+\]|[^:\[\]]*)(?::(?P<port>\d*))?")
NAME: Final = re.compile(r"[A-Za-z_][\w.-]*", re.ASCII)
OPTION: Final = re.compile(r"(?:-c\s*|--)(?P<name>[A-Za-z_][\w.-]*)=(?P<value>(?:[^\s\\]|\\.)*)\s*")

TLS: Final = frozenset(
    {
        *("sslmode", "sslrootcert", "sslcert", "sslkey", "sslpassword", "sslcrl"),
        *("ssl_min_protocol_version", "ssl_max_protocol_version"),
    }
)
"""TLS parameters that are passed on to asyncpg."""

HOST_PARAMETERS: Final = frozenset({"host", "hostaddr", "port"})

OWN: Final = (
    TLS
    | HOST_PARAMETERS
    | {
        *("dbname", "database", "user", "password", "passfile"),
        *(
            "service",
            "servicefile",
            "connect_timeout",
            "target_session_attrs",
            "load_balance_hosts",
        ),
        *("options", "ssl", "sslnegotiation", "krbsrvname", "gsslib"),
    }
)

IGNORED: Final = frozenset(
    {
        # Of libpq. Text is always UTF-8, and connections have other timeouts.
        *("channel_binding", "client_encoding", "fallback_application_name", "gssdelegation"),
        *("gssencmode", "keepalives", "keepalives_count", "keepalives_idle", "keepalives_interval"),
        *("max_protocol_version", "min_protocol_version", "replication", "require_auth"),
        *("requiressl", "sslcertmode", "sslcompression", "sslkeylogfile", "sslsni"),
        *("tcp_user_timeout", "authtype", "tty"),
        # Of poolers and other drivers.
        *("command_timeout", "connection_limit", "default_query_exec_mode", "max_overflow"),
        *("pgbouncer", "pool_health_check_period", "pool_max_conn_idle_time"),
        *("pool_max_conn_lifetime", "pool_max_conns", "pool_min_conns", "pool_pre_ping"),
        *("pool_recycle", "pool_size", "pool_timeout", "prepareThreshold"),
        *("prepared_statement_cache_size", "prepared_statements", "socket_timeout", "sslaccept"),
        *("statement_cache_capacity", "statement_cache_mode", "statement_cache_size", "supa"),
        *("binary_parameters", "uselibpqcompat", "workaround"),
    }
)
"""Parameters without any effect."""

INSTEAD: Final = {"schema": "search_path", "currentSchema": "search_path", "sslcrldir": "sslcrl"}
"""Parameters of other drivers that must not be ignored, and their replacements."""

VERSIONS: Final = ("TLSv1", "TLSv1.1", "TLSv1.2", "TLSv1.3")

ONE_OF: Final = {
    "sslmode": ("disable", "allow", "prefer", "require", "verify-ca", "verify-full"),
    "sslnegotiation": ("postgres", "direct"),
    "gssencmode": ("disable", "prefer"),
    "load_balance_hosts": ("disable", "random"),
    "ssl_min_protocol_version": VERSIONS,
    "ssl_max_protocol_version": VERSIONS,
    "replication": ("false", "off", "no", "0"),
    "target_session_attrs": (
        *("any", "primary", "standby", "prefer-standby", "read-write", "read-only"),
    ),
}
"""The allowed values of some parameters."""


@dataclass(frozen=True)
class DatabaseAddress:
    """The parts of a database URL."""

    hosts: tuple[tuple[str, int | None], ...]
    """Hosts or Unix socket directories, with their ports; "" and None stand for the defaults."""
    user: str | None = None
    password: str | None = field(default=None, repr=False)
    database: str | None = None
    parameters: dict[str, str] = field(default_factory=dict, repr=False)
    """The parameters in `OWN`."""
    settings: dict[str, str] = field(default_factory=dict)
    """Settings of the server."""
    ignored: tuple[str, ...] = ()
    """Names of parameters without any effect."""

    @property
    def place(self) -> str:
        """Hosts and database, without secrets."""
        hosts = (
            (f"[{host}]" if ":" in host else host) + ("" if port is None else f":{port}")
            for host, port in self.hosts
        )
        return f"{','.join(hosts)}/{self.database or ''}"


def parse_database_url(url: str, defaults: Mapping[str, str] | None = None) -> DatabaseAddress:
    """Parse a database URL.

    Args:
        url: The URL.
        defaults: Default values of parameters, by their names in libpq.

    Raises:
        ValueError: the URL is malformed; the message shows no secrets.
    """
    scheme, separator, rest = url.partition("://")
    if not separator:
        raise ValueError(SHAPE)
    if scheme not in SCHEMES:
        known = f"not {scheme}://" if SCHEME.fullmatch(scheme) else "nothing else"
        raise ValueError(f"must begin with postgresql:// or postgres://, {known}")
    authority, path, query = split(rest)
    login, _, hosts = authority.rpartition("@")
    if re.search(r"[\[\]#]", login) or "@" in path:
        raise ValueError(SHAPE)
    given = parse_query(query)
    user, _, password = login.partition(":")
    named = {"user": user, "password": password, "dbname": path[1:]}
    decoded = {name: decode(text) for name, text in named.items() if text}
    # An empty password counts as given: no other source is searched.
    empty = {"password": ""} if login.endswith(":") else {}
    given = empty | decoded | given
    fallback = {k: v for k, v in (defaults or {}).items() if not (hosts and k in HOST_PARAMETERS)}
    return address(fallback | given, parse_hosts(hosts))


def split(rest: str) -> tuple[str, str, str]:
    """Split the URL after the scheme into authority, path and query."""
    rest, _, query = rest.partition("?")
    authority, slash, path = rest.partition("/")
    return authority, slash + path, query


def parse_hosts(authority: str) -> list[tuple[str, int | None]]:
    """Read HOST:PORT,HOST:PORT, where a host may be an IPv6 address in brackets.

    Raises:
        ValueError: a host or port is malformed.
    """
    if not authority:
        return []
    found = [HOST.fullmatch(host) for host in authority.split(",")]
    hosts = [(decode(match["host"]).strip("[]"), match["port"]) for match in found if match]
    if len(hosts) < len(found) or (len(hosts) > 1 and not all(host for host, _ in hosts)):
        raise ValueError(SHAPE)
    return [(host, parse_port(port) if port else None) for host, port in hosts]


def parse_port(text: str) -> int:
    """Read a port.

    Raises:
        ValueError: the text is not a port.
    """
    if not re.fullmatch(r"\d{1,5}", text, re.ASCII) or not 0 < int(text) < 65536:
        raise ValueError(SHAPE)
    return int(text)


def parse_query(query: str) -> dict[str, str]:
    """Read the parameters; if a name occurs more than once, the last value counts.

    Raises:
        ValueError: a parameter has no valid name, or no `=`.
    """
    parameters: dict[str, str] = {}
    for pair in filter(None, query.split("&")):
        name, equals, value = map(decode, pair.partition("="))
        strange = "@" in pair and name not in OWN | IGNORED
        if not equals or strange or not NAME.fullmatch(name):
            raise ValueError(SHAPE)
        parameters[name] = value
    return {name: value for name, value in parameters.items() if value}


def decode(text: str) -> str:
    """Decode percent-encoded text.

    Raises:
        ValueError: the result is not text that PostgreSQL can store.
    """
    try:
        decoded = unquote(text, errors="strict")
    except UnicodeDecodeError:
        raise ValueError(SHAPE) from None
    if "\0" in decoded:
        raise ValueError(SHAPE)
    return decoded


def address(given: dict[str, str], hosts: list[tuple[str, int | None]]) -> DatabaseAddress:
    """Return the address, with the parameters grouped by their use.

    Args:
        given: All parameters, by their names in libpq.
        hosts: The hosts in the authority of the URL.

    Raises:
        ValueError: a parameter has a wrong value; the message names it.
    """
    check(given)
    own = {name: value for name, value in given.items() if name in OWN}
    if "ssl" in own:
        own.setdefault("sslmode", "disable" if own["ssl"] == "false" else "require")
    settings = {k: v for k, v in given.items() if k not in OWN | IGNORED}
    options = parse_options(own.get("options", ""))
    if options is not None:
        own.pop("options", None)
        settings = options | settings
    return DatabaseAddress(
        hosts=tuple(choose_hosts(hosts, own)),
        user=own.get("user"),
        password=own.get("password"),
        database=own.get("dbname") or own.get("database"),
        parameters=own,
        settings=settings,
        ignored=tuple(sorted(given.keys() & IGNORED)),
    )


def check(given: dict[str, str]) -> None:
    """Check the parameters that are not settings of the server.

    Raises:
        ValueError: a parameter is wrong; the message names it.
    """
    for name in given.keys() & INSTEAD.keys():
        raise ValueError(f"the parameter {name} is not supported: write {INSTEAD[name]}=…")
    for name in given.keys() & ONE_OF.keys():
        if given[name] not in ONE_OF[name]:
            raise ValueError(f"the parameter {name} must be one of {', '.join(ONE_OF[name])}")
    if not re.fullmatch(r"-?\d{1,6}", given.get("connect_timeout", "0"), re.ASCII):
        raise ValueError("the parameter connect_timeout must be a number of seconds, such as 10")


def parse_options(options: str) -> dict[str, str] | None:
    """Read `-c NAME=VALUE` and `--NAME=VALUE` into settings; None if there is anything else.

    Some providers use their own syntax in `options`, such as `endpoint=…`; it is passed on.
    """
    settings: dict[str, str] = {}
    rest = options.strip()
    while rest:
        found = OPTION.match(rest)
        if found is None:
            return None
        settings[found["name"].replace("-", "_")] = re.sub(r"\\(.)", r"\1", found["value"])
        rest = rest[found.end() :]
    return settings


def choose_hosts(
    hosts: list[tuple[str, int | None]], own: dict[str, str]
) -> list[tuple[str, int | None]]:
    """Return the hosts in the parameters, else the given ones; the same for ports.

    Raises:
        ValueError: the numbers of hosts and ports differ.
    """
    hosts = hosts or [("", None)]
    names, ports = [host for host, _ in hosts], [port for _, port in hosts]
    if named := own.get("host") or own.get("hostaddr"):
        names = [host.strip("[]") for host in named.split(",")]
    if "port" in own:
        ports = [parse_port(port) if port else None for port in own["port"].split(",")]
    ports *= len(names) if len(ports) == 1 else 1
    if len(ports) != len(names):
        raise ValueError(f"{len(names)} hosts cannot have {len(ports)} ports")
    return list(zip(names, ports, strict=True))
