"""Prometheus remote-write receiver for PostgreSQL and TimescaleDB."""

__version__ = "0.1.0"
