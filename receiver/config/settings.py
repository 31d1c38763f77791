"""All settings, in one class: the only reader of the environment.

A setting comes from (first wins) a command-line flag, an environment variable with the prefix
`RECEIVER_`, a `.env` file in the working directory, or a file of the same name as the variable in
`/run/secrets`, where Docker mounts secrets. Blanks around a value are ignored, whatever its
source.
"""

from __future__ import annotations

import ipaddress
import os
from collections.abc import Collection, Iterator, Mapping
from datetime import timedelta
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import (
    ByteSize,
    Field,
    SecretStr,
    ValidationError,
    ValidationInfo,
    field_validator,
    model_validator,
)
from pydantic.fields import FieldInfo
from pydantic_settings import (
    BaseSettings,
    CliSettingsSource,
    CliSuppress,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
)

from receiver.config.catalogue import Durations, built_in
from receiver.config.database_url import parse_database_url
from receiver.config.explaining import explain, kind_of, show
from receiver.config.files import (
    PREFIX,
    Ignored,
    judge_names,
    read_env_file,
    read_secret,
    secret_files,
)
from receiver.config.value_types import (
    Address,
    Age,
    CacheSize,
    Count,
    DatabaseURL,
    Duration,
    HostNames,
    Lead,
    Limit,
    MetricName,
    PositiveDuration,
    Size,
    Template,
    Tokens,
    Word,
    is_unicode_text,
    tidy,
)
from receiver.errors import SettingsError
from receiver.protocol.limits import DEFAULTS, MIB, Limits
from receiver.rows.tables import Catalogue

# `[::]` takes IPv4 too, and many containers have no ::1.
ANY_ADDRESS = dict.fromkeys(("0.0.0.0", "::"), "127.0.0.1")  # noqa: S104  replaced, not bound
SECRETS = frozenset({"database_url", "database_password", "bearer_token"})
"""Settings whose values are secret."""
SECRETS_DIR = Path("/run/secrets")
ENV_FILE = Path(".env")


def reachable_host(host: str, port: int) -> str:
    """Return the HOST:PORT at which this machine reaches a server that listens on an address."""
    host = ANY_ADDRESS.get(host, host)
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def default_data_dir() -> Path:
    """Return the default directory for state, which the running user may write to."""
    given = Path(os.environ.get("XDG_DATA_HOME", ""))
    try:
        home = given if given.is_absolute() else Path.home() / ".local/share"
    except RuntimeError:
        # A user without a name and a home directory.
        home = Path("/var/lib")
    return (Path("/var/lib") if os.geteuid() == 0 else home) / "receiver"


class Files(PydanticBaseSettingsSource):
    """Reads settings from `.env`, and those without any other value from the secrets directory."""

    def __call__(self) -> dict[str, str]:
        """Read the files.

        Raises:
            SettingsError: a file cannot be read.
        """
        names = self.settings_cls.model_fields
        lines = {line.name: line.value for line in read_env_file(ENV_FILE).lines}
        found = {name: lines[key] for name in names if lines.get(key := variable(name))}
        for name in names.keys() - found.keys() - self.current_state.keys():
            if secret := read_secret(SECRETS_DIR, name):
                found[name] = secret[0]
        return found

    def get_field_value(self, field: FieldInfo, field_name: str) -> tuple[Any, str, bool]:
        """Return a single value; required by pydantic-settings, but not called."""
        del field
        return self().get(field_name), field_name, False


class Settings(BaseSettings):
    """The settings of the receiver."""

    model_config = SettingsConfigDict(
        env_prefix=PREFIX,
        extra="ignore",
        frozen=True,
        # ${NAME:-} in a compose file sets an unset variable to an empty text.
        env_ignore_empty=True,
        cli_kebab_case=True,
        cli_implicit_flags=True,
        cli_avoid_json=True,
        cli_hide_none_type=True,
    )

    listen: Address = Field("127.0.0.1:9201", description="Address to listen on, HOST:PORT.")
    database_url: DatabaseURL | None = Field(
        None,
        description="PostgreSQL or TimescaleDB to write to, "
        "postgresql://USER:PASSWORD@HOST/DATABASE. "
        "Unset: an embedded PostgreSQL under the data directory.",
    )
    database_password: CliSuppress[SecretStr | None] = Field(
        None, description="Password for the database, if it is not part of the URL."
    )
    data_dir: Path = Field(
        default_factory=default_data_dir,
        description="Directory of the embedded PostgreSQL. "
        "Default: ~/.local/share/receiver, for root /var/lib/receiver.",
    )
    bearer_token: CliSuppress[Tokens | None] = Field(
        None,
        description="Token that requests must have, or several, one per line. "
        "With this or a credentials file, requests without credentials are refused.",
    )
    credentials_file: Path | None = Field(
        None,
        description="YAML file with digests of accepted tokens and passwords, "
        "made by `receiver credential`; reloaded when it changes.",
    )
    allowed_hosts: HostNames | None = Field(
        None,
        description="Names, separated by commas, by which browsers reach a receiver without "
        "credentials, such as that of a proxy; addresses and names without a dot always work.",
    )
    tls_cert_file: Path | None = Field(
        None,
        description="Certificate (PEM, with its chain) to serve HTTPS with; "
        "reloaded when it changes, as are the two files below.",
    )
    tls_key_file: Path | None = Field(
        None, description="Private key of the certificate, if it is not in the same file."
    )
    tls_client_ca_file: Path | None = Field(
        None,
        description="Certificates (PEM) of the authorities that sign the client certificates "
        "which requests must present.",
    )
    tables_file: Path | None = Field(
        None,
        description="YAML file that declares the tables and the metrics that fill them; "
        "`receiver tables check` reads it. Unset: app_logs, filled by the metrics below.",
    )
    status_metric: MetricName = Field(
        "app_status", description="Metric with the error code, a whole number."
    )
    ocr_metric: MetricName = Field("ocr_value", description="Metric with a Unix timestamp.")
    ocr_unit: Annotated[Literal["seconds", "milliseconds"], Word] = Field(
        "seconds", description="Unit of the Unix timestamp."
    )
    pair_timeout: PositiveDuration = Field(
        timedelta(hours=2),
        description="How long an incomplete row waits for its other samples before its own are "
        "rejected as unpaired.",
    )
    pair_linger: Duration = Field(
        timedelta(milliseconds=5),
        description="Batching delay: how long a commit waits for the other samples of an "
        "incomplete row while other requests are in flight.",
    )
    maintenance_interval: PositiveDuration = Field(
        timedelta(seconds=30),
        description="Pause between two rounds of maintenance: rejecting samples of incomplete "
        "rows, refreshing metrics of the database, keeping reports ready, deleting old rows.",
    )
    migrate_on_start: bool = Field(True, description="Bring the schema up to date at start.")
    chunk_interval: PositiveDuration = Field(
        timedelta(days=1), description="Time range of a chunk of a hypertable (TimescaleDB)."
    )
    compress_after: Age = Field(
        timedelta(days=7),
        description="Age at which rows are compressed (TimescaleDB); off: never.",
    )
    retention: Age = Field(None, description="Age at which rows are deleted; off: never.")
    rejected_retention: Age = Field(
        timedelta(days=30), description="Age at which rejected samples are deleted; off: never."
    )
    workers: int = Field(
        1,
        ge=1,
        le=1000,
        description="Processes that serve the address together, to use more than one core. "
        "Limits of requests in flight are divided among them; each has its own writers.",
    )
    citus: Annotated[Literal["auto", "off"], Word] = Field(
        "auto",
        description="Whether the tables are distributed over the worker nodes where the database "
        "has Citus; with off, only if others are distributed already.",
    )
    shards: int = Field(
        16, ge=1, le=1024, description="Shards of the tables when they are distributed (Citus)."
    )
    reference_checks: Annotated[Literal["batch", "row"], Word] = Field(
        "batch",
        description="Whether the error codes and sources of rows are checked once per batch, if "
        "the role and the table allow it, or row by row.",
    )
    writers: int = Field(
        3, ge=1, le=1000, description="Maximum number of transactions that commit at the same time."
    )
    source_name: Template | None = Field(
        None,
        description="What the page calls a source: text with labels in braces, such as "
        "{line} {instance}. Unset: the label instance, else job.",
    )
    max_body_size: Size = Field(
        ByteSize(16 * 2**20), description="Maximum size of a request body, compressed."
    )
    max_message_size: Size = Field(
        ByteSize(64 * 2**20), description="Maximum size of a request, decompressed."
    )
    max_in_flight_requests: Count = Field(
        1000,
        description="Maximum number of complete requests in flight; further ones are answered 503.",
    )
    max_in_flight_size: Size = Field(
        ByteSize(128 * 2**20),
        description="Maximum decompressed size of all requests in flight; further ones are "
        "answered 503.",
    )
    max_arriving_size: Size = Field(
        ByteSize(64 * 2**20),
        description="Maximum size of all request bodies that are still arriving; above it the one "
        "that has occupied the most memory for the longest time is answered 503.",
    )
    max_connections: Count = Field(
        2500,
        description="Maximum number of connections; a further one replaces the longest idle one. "
        "Lower if `ulimit -n` allows fewer.",
    )
    min_body_rate: Size = Field(
        ByteSize(512),
        description="Minimum rate of a request body in bytes per second; a body below it for 10s "
        "is answered 503.",
    )
    max_sample_age: Age = Field(
        timedelta(days=3650),
        description="Age above which a sample is rejected as too old; off: no limit.",
    )
    max_sample_lead: Lead = Field(
        None,
        description="How far in the future a sample may be; later ones are rejected; "
        "off: no limit.",
    )
    max_new_sources: Limit = Field(
        20_000,
        description="Maximum number of label sets that one process adds to `sources` in an hour; "
        "samples of further ones are rejected; off: no limit.",
    )
    max_new_codes: Limit = Field(
        1_000,
        description="Maximum number of unknown error codes that one process registers in an hour; "
        "samples with further ones are rejected; off: no limit.",
    )
    max_new_chunks: Limit = Field(
        500,
        description="Maximum number of chunks of other days that one process creates in an hour "
        "(TimescaleDB); samples in further ones are rejected; off: no limit.",
    )
    max_decoded_size: Size = Field(
        ByteSize(DEFAULTS.max_decoded_size),
        description="Maximum memory of one decoded request: samples, new label sets and, for 2.0, "
        "symbols; a larger one is refused.",
    )
    max_request_series: Count = Field(
        DEFAULTS.max_request_series,
        description="Maximum number of series in a request, including metadata entries; "
        "a request with more is refused.",
    )
    max_request_samples: Count = Field(
        DEFAULTS.max_request_samples,
        description="Maximum number of samples, histograms and exemplars in a request; "
        "a request with more is refused.",
    )
    max_series_labels: Count = Field(
        DEFAULTS.max_series_labels,
        description="Maximum number of labels of a series or exemplar; a series with more is "
        "invalid, and the others of the request are stored.",
    )
    max_label_set_size: Size = Field(
        ByteSize(DEFAULTS.max_label_set_size),
        description="Maximum size of the label names and values of a series; "
        "a larger series is invalid.",
    )
    max_element_size: Size = Field(
        ByteSize(DEFAULTS.max_element_size),
        description="Maximum size of a histogram, exemplar or other element of a series; "
        "a series with a larger one is invalid.",
    )
    max_remote_reads: Count = Field(
        4,
        description="Maximum number of read requests that are answered at the same time, each with "
        "a database connection of its own; further ones wait.",
    )
    max_remote_read_series: Count = Field(
        100_000,
        description="Maximum number of series that one query of a read request may select.",
    )
    max_remote_read_samples: Count = Field(
        100_000_000, description="Maximum number of samples in the answer to a read request."
    )
    max_remote_read_size: Size = Field(
        ByteSize(64 * MIB),
        description="Maximum compressed size of an answer of type SAMPLES, which is kept in memory "
        "until it is complete.",
    )
    max_remote_read_frame: Size = Field(
        ByteSize(45 * MIB),
        description="Maximum size of a frame of STREAMED_XOR_CHUNKS, which holds one series and is "
        "kept in memory until it is complete. Prometheus reads frames of up to 50 MB "
        "(`chunked_read_limit`).",
    )
    series_cache_size: CacheSize = Field(
        ByteSize(128 * MIB),
        description="Memory for the labels of known series, which need not be parsed again; "
        "at least 1MiB.",
    )
    read_timeout: PositiveDuration = Field(
        timedelta(seconds=30),
        description="Time within which a request body must arrive; a later one is answered 503.",
    )
    idle_timeout: PositiveDuration = Field(
        timedelta(seconds=75),
        description="Time within which the headers of a connection's next request must arrive.",
    )
    commit_timeout: PositiveDuration = Field(
        timedelta(seconds=20),
        description="Time within which a transaction must commit; after it the request is "
        "answered 503.",
    )
    remote_read_timeout: PositiveDuration = Field(
        timedelta(minutes=2),
        description="Time within which a read request must be answered, waiting included.",
    )
    retry_after: Duration = Field(
        timedelta(seconds=5), description="Time that a 503 asks the sender to wait."
    )
    shutdown_delay: Duration = Field(
        timedelta(0),
        description="Time between reporting not ready and refusing connections at shutdown, "
        "for a load balancer to notice.",
    )
    shutdown_timeout: PositiveDuration = Field(
        timedelta(seconds=30), description="Time to finish accepted requests at shutdown."
    )
    log_level: Annotated[Literal["debug", "info", "warning", "error"], Word] = Field(
        "info", description="Lowest severity of messages that are logged."
    )
    log_format: Annotated[Literal["text", "json"], Word] = Field(
        "text", description="Format of log messages: text for people, or one JSON object per line."
    )

    @field_validator("*", mode="before")
    @classmethod
    def _tidy(cls, value: object, info: ValidationInfo) -> object:
        name = str(info.field_name)
        text = tidy(
            value,
            one_line=name != "bearer_token",
            may_be_quoted=name == "database_password",
        )
        path = kind_of(cls.model_fields[name]) is Path
        if text == "" and (path or name in SECRETS):
            # An empty path would be the working directory.
            raise ValueError("must not be empty: leave it out instead")
        if isinstance(text, str) and not path and not is_unicode_text(text):
            raise ValueError("must be text in UTF-8")
        return text

    @model_validator(mode="after")
    def _check_tables_file(self) -> Self:
        given = sorted(self.model_fields_set & {"status_metric", "ocr_metric", "ocr_unit"})
        if self.tables_file is not None and given:
            raise ValueError(
                f"RECEIVER_{given[0].upper()}={show(getattr(self, given[0]))}: has no effect with "
                "RECEIVER_TABLES_FILE: declare the metric there, and remove this setting"
            )
        return self

    @model_validator(mode="after")
    def _check_metrics(self) -> Self:
        if self.status_metric == self.ocr_metric:
            raise ValueError(
                f"RECEIVER_STATUS_METRIC={show(self.status_metric)}: must differ from "
                "RECEIVER_OCR_METRIC"
            )
        return self

    @model_validator(mode="after")
    def _check_tls(self) -> Self:
        for name in ("tls_key_file", "tls_client_ca_file"):
            if getattr(self, name) is not None and self.tls_cert_file is None:
                raise ValueError(f"RECEIVER_{name.upper()}: needs RECEIVER_TLS_CERT_FILE too")
        return self

    @property
    def address(self) -> tuple[str, int]:
        """The host and port to listen on, an IPv6 host without brackets."""
        host, _, port = self.listen.rpartition(":")
        return host.strip("[]"), int(port)

    @property
    def own_url(self) -> str:
        """The URL at which the receiver is reached from this machine."""
        scheme = "http" if self.tls_cert_file is None else "https"
        return f"{scheme}://{reachable_host(*self.address)}"

    @property
    def bearer_tokens(self) -> list[str]:
        """The accepted bearer tokens."""
        if self.bearer_token is None:
            return []
        return self.bearer_token.get_secret_value().split()

    @property
    def allowed_host_names(self) -> list[str]:
        """The additional names by which browsers may reach the receiver."""
        return (self.allowed_hosts or "").replace(",", " ").split()

    @property
    def requires_credentials(self) -> bool:
        """Whether requests need credentials of any kind."""
        kinds = (self.bearer_token, self.credentials_file, self.tls_client_ca_file)
        return any(kind is not None for kind in kinds)

    @property
    def listens_beyond_loopback(self) -> bool:
        """Whether other machines may reach the receiver; assumed for names other than localhost."""
        host, _ = self.address
        try:
            return not ipaddress.ip_address(host).is_loopback
        except ValueError:
            return host != "localhost"

    @property
    def database_place(self) -> str:
        """The host, port and name of the database, without secrets."""
        if self.database_url is None:
            return "embedded"
        return parse_database_url(self.database_url.get_secret_value()).place

    @property
    def durations(self) -> Durations:
        """The durations of tables that do not declare their own."""
        return Durations(self.pair_timeout, self.compress_after, self.retention)

    @cached_property
    def catalogue(self) -> Catalogue:
        """The tables, and the metrics that feed them.

        Raises:
            SettingsError: the tables file cannot be read, or is wrong (`TablesFileError`).
        """
        if self.tables_file is None:
            return built_in(self.status_metric, self.ocr_metric, self.ocr_unit, self.durations)
        from receiver.config.tables_reader import read_catalogue  # noqa: PLC0415  loads YAML

        return read_catalogue(self.tables_file, self.durations)

    @property
    def limits(self) -> Limits:
        """The limits of a request and of a series."""
        return Limits(**{name: getattr(self, name) for name in Limits._fields})

    def model_copy(self, *, update: Mapping[str, Any] | None = None, deep: bool = False) -> Self:
        """Return a copy with other values."""
        copied = super().model_copy(update=update, deep=deep)
        # The cached catalogue may have other tables.
        copied.__dict__.pop("catalogue", None)
        return copied

    def __getstate__(self) -> dict[Any, Any]:
        # Compiled expressions cannot be sent to a worker, so it reads the tables itself.
        state = super().__getstate__()
        values = {name: value for name, value in self.__dict__.items() if name != "catalogue"}
        return state | {"__dict__": values}

    @classmethod
    def load(cls, flags: CliSettingsSource[Self] | None = None, **values: Any) -> Self:  # noqa: ANN401  field values
        """Read all sources; the flags win, then `values`.

        Raises:
            SettingsError: settings are wrong, or a file cannot be read; the message names all wrong
                    settings, with their values unless secret.
        """
        try:
            return cls(_cli_settings_source=flags, **values)
        except ValidationError as error:
            given = {**values, **(flags() if flags else {})}
            raise SettingsError("; ".join(explain_all(error, given))) from None

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Read files by the receiver's own source, which reports file and line of errors."""
        del dotenv_settings, file_secret_settings
        return init_settings, env_settings, Files(settings_cls)


def variable(name: str) -> str:
    """Return the environment variable of a setting."""
    return f"{PREFIX}{name.upper()}"


def explain_all(error: ValidationError, given: Collection[str]) -> Iterator[str]:
    """Yield an explanation of each wrong setting.

    Args:
        error: The error that pydantic reports.
        given: The settings that are neither from the environment nor from a file.
    """
    for fault in error.errors():
        name = str(fault["loc"][0]) if fault["loc"] else ""
        yield explain(
            fault,
            Settings.model_fields.get(name),
            secret=name in SECRETS,
            place="" if name in given else find_place(name),
        )


def find_place(name: str) -> str:
    """Return the file, and for `.env` the line, of a setting; empty if it comes from no file."""
    if any(key.upper() == variable(name) and value for key, value in os.environ.items()):
        return ""
    for line in read_env_file(ENV_FILE).lines:
        if line.name == variable(name) and line.value:
            return line.place
    secret = read_secret(SECRETS_DIR, name)
    return str(secret[1]) if secret else ""


def find_ignored() -> list[Ignored]:
    """Find names in the environment and in files that look like settings but have no effect.

    Raises:
        SettingsError: a file cannot be read.
    """
    env_file = read_env_file(ENV_FILE)
    names = [
        *((name.upper(), "") for name in sorted(os.environ)),
        *((line.name, f" ({line.place})") for line in env_file.lines),
        *((file.name.upper(), f" ({file})") for file in secret_files(SECRETS_DIR)),
    ]
    return judge_names(names, {variable(name) for name in Settings.model_fields}) + env_file.ignored
