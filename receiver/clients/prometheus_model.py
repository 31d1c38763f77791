"""The parts of Prometheus' responses that are read; validation fails for other servers."""

from __future__ import annotations

from typing import Annotated, Any, Final, Generic, Literal, NamedTuple, TypeVar

import re2
import yaml
from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    FiniteFloat,
    ValidationError,
)
from pydantic_core import from_json

from receiver.errors import UnavailableError

T = TypeVar("T")

MAX_REASON: Final = 200
"""Maximum number of characters that are shown of an error in a response."""

RE2: Final = re2.Options()
RE2.log_errors = False


class RefusedByPrometheusError(UnavailableError):
    """Prometheus refuses the request, however often it is sent."""


class Points(NamedTuple):
    """A series and its samples."""

    labels: dict[str, str]
    values: list[tuple[int, float]]
    """Timestamps in milliseconds since the Unix epoch, and values."""


class Answer(BaseModel, Generic[T]):
    """A response of the HTTP API."""

    status: Literal["success"] = "success"
    data: T
    warnings: list[str] = []
    is_partial: bool = Field(default=False, alias="isPartial")
    """Set by VictoriaMetrics if a part of its storage did not answer."""


class Anything(BaseModel):
    """Data that is not read."""


class BuildInfo(BaseModel):
    """The version; VictoriaMetrics does not report one."""

    version: str = "of an unknown version"


class Count(BaseModel):
    """The one element of a vector."""

    value: tuple[FiniteFloat, FiniteFloat]


class Vector(BaseModel):
    """The result of `count(…)`."""

    result: list[Count]


class SeriesPoints(BaseModel):
    """A series of a matrix; one that holds histograms has no values."""

    metric: dict[str, str]
    values: list[tuple[FiniteFloat, float]] = []


class Matrix(BaseModel):
    """The result of a range selector."""

    result: list[SeriesPoints]


class Target(BaseModel):
    """A scrape target."""

    health: str
    scrape_url: str = Field(alias="scrapeUrl")
    last_error: str = Field(default="", alias="lastError")


class Targets(BaseModel):
    """The scrape targets, active and dropped."""

    active: list[Target] = Field(alias="activeTargets")


# An empty section has no value in YAML; every scalar is read as text.
Optional = BeforeValidator(lambda value: value or None)
Regex = BeforeValidator(lambda value: "|".join(value) if isinstance(value, list) else value)


class RelabelRule(BaseModel):
    """A rule of `write_relabel_configs`; VictoriaMetrics allows several expressions in one."""

    source_labels: list[str] | str = []
    regex: Annotated[str, Regex] = "(.*)"
    action: Annotated[str, AfterValidator(str.lower)] = "replace"

    def drops(self, name: str) -> bool:
        """Return whether the rule drops a metric by its name alone.

        Raises:
            ValueError: its expression is not valid for RE2, which Prometheus uses.
        """
        if self.source_labels not in (["__name__"], "__name__"):
            return False
        if self.action not in {"keep", "drop"}:
            return False
        return self._matches(name) == (self.action == "drop")

    def drops_label(self, name: str) -> bool:
        """Return whether the rule removes a label from all series.

        Raises:
            ValueError: its expression is not valid for RE2, which Prometheus uses.
        """
        if self.action not in {"labelkeep", "labeldrop"}:
            return False
        return self._matches(name) == (self.action == "labeldrop")

    def _matches(self, name: str) -> bool:
        try:
            # As in Prometheus: anchored, and a dot matches any character.
            found = re2.compile(f"(?s:{self.regex})", options=RE2).fullmatch(name)
        except re2.error as error:
            raise ValueError(f"not a regular expression of RE2: {self.regex!r}") from error
        return found is not None


class Remote(BaseModel):
    """One entry of `remote_read` or `remote_write`."""

    model_config = ConfigDict(extra="allow")

    url: str

    def says(self, name: str) -> bool:
        """Return whether the entry has a section or setting of a name."""
        return name in (self.model_extra or {})


class RemoteRead(Remote):
    """One entry of `remote_read`."""

    required_matchers: Annotated[dict[str, str] | None, Optional] = None
    # Prometheus omits settings that are false.
    filter_external_labels: str = "false"


class RemoteWrite(Remote):
    """One entry of `remote_write`."""

    rules: Annotated[list[RelabelRule] | None, Optional] = Field(
        default=None, alias="write_relabel_configs"
    )


class Global(BaseModel):
    """The section `global`."""

    external_labels: Annotated[dict[str, str] | None, Optional] = None


class Configuration(BaseModel):
    """A configuration of Prometheus."""

    common: Annotated[Global | None, Optional] = Field(default=None, alias="global")
    remote_write: Annotated[list[RemoteWrite] | None, Optional] = None
    remote_read: Annotated[list[RemoteRead] | None, Optional] = None


class ConfigurationText(BaseModel):
    """The data of a response with the configuration."""

    yaml: str


def read_answer(kind: type[Answer[T]], text: str) -> Answer[T]:
    """Read a response of the HTTP API.

    Raises:
        RefusedByPrometheusError: it is malformed, or reports an error.
    """
    try:
        return kind.model_validate_json(text)
    except ValidationError as error:
        said = read_error(text)
        if said is not None:
            raise RefusedByPrometheusError(f"Prometheus answers: {shorten(said)}") from None
        raise RefusedByPrometheusError("the server that answers is not Prometheus") from error


def read_configuration(text: str) -> Configuration:
    """Read a configuration.

    Raises:
        RefusedByPrometheusError: it is malformed.
    """
    try:
        # Every scalar as text: YAML 1.1 would read some as other types, such as `=`.
        content = yaml.load(text, Loader=yaml.BaseLoader)  # noqa: S506  makes only text
        return Configuration.model_validate(content or {})
    except (yaml.YAMLError, ValidationError, RecursionError, ValueError) as error:
        raise RefusedByPrometheusError(
            "the configuration that Prometheus returns cannot be read"
        ) from error


def reason(text: str) -> str:
    """Return the error in a response, shortened."""
    return shorten(read_error(text) or text)


def read_error(text: str) -> str | None:
    """Return the error in a response, None if there is none."""
    try:
        answer: Any = from_json(text)
    except ValueError:
        return None
    said = answer.get("error") if isinstance(answer, dict) else None
    return None if said is None else str(said)


def shorten(text: str) -> str:
    """Return the beginning of a text in one line, safe to show on a terminal."""
    start = text[: 10 * MAX_REASON]
    printable = "".join(char if char.isprintable() else " " for char in start)
    return " ".join(printable.split())[:MAX_REASON]
