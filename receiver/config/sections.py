"""The sections of settings in the help and the reference."""

from __future__ import annotations

from enum import StrEnum
from typing import Final


class Section(StrEnum):
    """A section of settings."""

    SERVER = "Server"
    SECURITY = "Security"
    DATABASE = "Database"
    METRICS = "Tables and metrics"
    STORAGE = "Storage"
    LIMITS = "Limits"
    TIMES = "Timeouts"
    PAGE = "Page"
    LOGGING = "Logging"
    OTHER = "Other"


SECTIONS: Final[dict[Section, tuple[str, ...]]] = {
    Section.SERVER: ("listen", "workers"),
    Section.SECURITY: (
        "bearer_token",
        "credentials_file",
        "allowed_hosts",
        "tls_cert_file",
        "tls_key_file",
        "tls_client_ca_file",
    ),
    Section.DATABASE: ("database_url", "database_password", "data_dir"),
    Section.METRICS: (
        "tables_file",
        "status_metric",
        "ocr_metric",
        "ocr_unit",
        "pair_timeout",
        "pair_linger",
        "maintenance_interval",
    ),
    Section.STORAGE: (
        "migrate_on_start",
        "writers",
        "reference_checks",
        "citus",
        "shards",
        "chunk_interval",
        "compress_after",
        "retention",
        "rejected_retention",
    ),
    Section.LIMITS: (
        "max_body_size",
        "max_message_size",
        "max_in_flight_requests",
        "max_in_flight_size",
        "max_arriving_size",
        "max_connections",
        "min_body_rate",
        "max_sample_age",
        "max_sample_lead",
        "max_new_sources",
        "max_new_codes",
        "max_new_chunks",
        "max_decoded_size",
        "max_request_series",
        "max_request_samples",
        "max_series_labels",
        "max_label_set_size",
        "max_element_size",
        "series_cache_size",
        "max_remote_reads",
        "max_remote_read_series",
        "max_remote_read_samples",
        "max_remote_read_size",
        "max_remote_read_frame",
    ),
    Section.TIMES: (
        "read_timeout",
        "idle_timeout",
        "commit_timeout",
        "remote_read_timeout",
        "retry_after",
        "shutdown_delay",
        "shutdown_timeout",
    ),
    Section.PAGE: ("source_name",),
    Section.LOGGING: ("log_level", "log_format"),
}


def section_of(name: str) -> Section:
    """Return the section of a setting."""
    return next((section for section, names in SECTIONS.items() if name in names), Section.OTHER)
