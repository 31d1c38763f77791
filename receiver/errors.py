"""Errors that several packages use: one class per cause, with its docstring as default message.

`ReceiverError.status` is the HTTP status that a sender or a browser gets if a request fails. It
decides whether data is lost: Prometheus drops a request answered 4xx and retries one answered 5xx,
so only a fault of the request itself may be 4xx (Remote-Write 1.0 and 2.0, "Retries & Backoff"). An
error that only one package uses is a subclass beside the code that raises it, with a status of its
own if it needs one. Answers without an error, such as that to a request of which some series are
invalid, are written in `http.answers`.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from http import HTTPStatus


class ReceiverError(Exception):
    """The receiver failed in an unexpected way."""

    status = HTTPStatus.INTERNAL_SERVER_ERROR

    def __init__(self, message: str | None = None) -> None:
        super().__init__(message or type(self).__doc__)

    @property
    def cause(self) -> str:
        """Its kind, such as `overloaded`; metrics and logs group errors by it."""
        if type(self) is ReceiverError:
            return "internal"
        words = re.findall("[A-Z][a-z]+", type(self).__name__.removesuffix("Error"))
        return "_".join(words).lower()


# --- faults of the request: answered 4xx, never retried --------------------------------------


class BadRequestError(ReceiverError):
    """The request is malformed."""

    status = HTTPStatus.BAD_REQUEST


class UnauthorizedError(ReceiverError):
    """This receiver needs valid credentials."""

    status = HTTPStatus.UNAUTHORIZED


class ForbiddenError(ReceiverError):
    """The request is not allowed."""

    status = HTTPStatus.FORBIDDEN


class ForeignPageError(ForbiddenError):
    """Pages of other sites must not send this request to a receiver."""


class NotFoundError(ReceiverError):
    """There is nothing at the address."""

    status = HTTPStatus.NOT_FOUND


class UnsupportedMediaTypeError(ReceiverError):
    """The content type or content encoding is not supported."""

    status = HTTPStatus.UNSUPPORTED_MEDIA_TYPE


class LengthRequiredError(ReceiverError):
    """The request has neither a Content-Length nor a chunked body."""

    status = HTTPStatus.LENGTH_REQUIRED


class TooLargeError(ReceiverError):
    """The request exceeds a size limit."""

    status = HTTPStatus.REQUEST_ENTITY_TOO_LARGE


class ReadLimitError(ReceiverError):
    """The answer to a read request exceeds a limit."""

    status = HTTPStatus.UNPROCESSABLE_ENTITY


# --- faults of anything else: answered 503, retried until it works ------------------------------


class UnavailableError(ReceiverError):
    """The receiver cannot store anything right now; send the request again later."""

    status = HTTPStatus.SERVICE_UNAVAILABLE


class OverloadedError(UnavailableError):
    """Too many requests are in flight."""


class SlowSenderError(UnavailableError):
    """The request's body arrives too slowly."""


class ShuttingDownError(UnavailableError):
    """The receiver is shutting down."""


class OutdatedConnectionError(UnavailableError):
    """The client's certificate must be checked again; open a new connection."""


class DatabaseUnavailableError(UnavailableError):
    """The database cannot be reached."""


class StatementRefusedError(DatabaseUnavailableError):
    """The database refuses a statement: a table or a privilege is missing."""


class ConflictingTransactionError(UnavailableError):
    """The transaction conflicted with another one; run it again."""


# --- the database rejects what was written; storage handles it, a sender would retry


class DuplicateRowError(UnavailableError):
    """A row with the same natural key exists already."""


class MissingReferenceError(UnavailableError):
    """A row refers to a source or an error code that is not there."""


class RefusedByDatabaseError(UnavailableError):
    """The database refuses the data itself, however often it is sent."""


# --- faults of the setup: end a command with one line --------------------------------------------


class SetupError(ReceiverError):
    """The receiver is not set up correctly."""

    # While the receiver runs, only the database can be set up wrongly: an operator may fix it.
    status = HTTPStatus.SERVICE_UNAVAILABLE


class SettingsError(SetupError):
    """A setting has a wrong value."""


class TablesFileError(SettingsError):
    """The tables file is wrong.

    Args:
        faults: A line for each fault.
    """

    def __init__(self, faults: Sequence[str]) -> None:
        super().__init__("\n".join(faults))
        self.faults = tuple(faults)


class UsageError(SettingsError):
    """The command line is wrong."""


class ErrorCodeError(SetupError):
    """This change to the error code is not possible."""

    status = HTTPStatus.CONFLICT


class MissingEntryError(SetupError):
    """There is no such entry: no shift, holiday, planned stop, comment or source."""

    status = HTTPStatus.NOT_FOUND


class SchemaError(SetupError):
    """The database schema does not fit this version of the receiver."""


class NotAdditiveError(SchemaError):
    """The declared tables need changes of the schema that only a person may make.

    Args:
        messages: A line for each change, and one that says what to do.
        statements: The SQL statements to choose from.
    """

    def __init__(self, messages: Sequence[str], statements: Sequence[str]) -> None:
        super().__init__("\n".join([*messages, *statements]))
        self.messages = tuple(messages)
        self.statements = tuple(statements)


class EmbeddedDatabaseError(SetupError):
    """The embedded PostgreSQL could not be started."""
