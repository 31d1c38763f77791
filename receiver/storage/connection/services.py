"""Reads libpq's service files, in which administrators keep connection parameters."""

from __future__ import annotations

import os
from collections.abc import Mapping
from configparser import ConfigParser
from configparser import Error as ConfigError
from pathlib import Path

from receiver.errors import SettingsError


def read_service(parameters: Mapping[str, str]) -> dict[str, str]:
    """Return the connection parameters of the service that `parameters` name.

    Raises:
        SettingsError: no file defines the service, or a file cannot be read.
    """
    service = parameters["service"]
    files = service_files(parameters)
    for path in files:
        parser = ConfigParser(interpolation=None, delimiters="=", comment_prefixes="#")
        try:
            parser.read_string(path.read_text(encoding="utf-8"))
        except FileNotFoundError:
            continue
        except (OSError, ValueError, ConfigError) as error:
            reason = getattr(error, "strerror", None) or "it is not a service file of libpq"
            raise SettingsError(
                f"RECEIVER_DATABASE_URL: service={service}: cannot read {path}: {reason}"
            ) from None
        if parser.has_section(service):
            return {name: value for name, value in parser[service].items() if value}
    raise SettingsError(
        f"RECEIVER_DATABASE_URL: service={service} is not defined in "
        f"{' or '.join(map(str, files)) or 'any file: set PGSERVICEFILE'}"
    )


def service_files(parameters: Mapping[str, str]) -> list[Path]:
    """Return the service files to read, in libpq's order."""
    named = parameters.get("servicefile") or os.environ.get("PGSERVICEFILE")
    files = [Path(named)] if named else []
    if not named and (home := os.environ.get("HOME")):
        files.append(Path(home, ".pg_service.conf"))
    if directory := os.environ.get("PGSYSCONFDIR"):
        files.append(Path(directory, "pg_service.conf"))
    return files
