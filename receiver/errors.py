"""One tree of errors, sorted by what the caller does next.

| error            | what the caller does                                             |
|------------------|------------------------------------------------------------------|
| `SettingsError`  | refuse to start; print file and line                             |
| `RejectedError`  | answer GitHub with its HTTP status and reason                    |
| `TransientError` | try the same step again, later                                   |
| `PermanentError` | give the job up, with the reason; a person has to change something |
| `TamperedError`  | end the process, with the reason                                 |
"""

from __future__ import annotations


class ReceiverError(Exception):
    """The root of all errors that this project raises on purpose."""


class SettingsError(ReceiverError):
    """The configuration is not usable; the message begins with file and line where they are known."""

    def __init__(self, problem: str, *, file: str | None = None, line: int | None = None) -> None:
        self.problem = problem
        self.file = file
        self.line = line
        place = "" if file is None else f"{file}: " if line is None else f"{file}:{line}: "
        super().__init__(place + problem)


class RejectedError(ReceiverError):
    """A delivery that is refused; `status` is the HTTP status, `reason` a short machine word, `detail` one sentence.

    Whoever administers the repository reads `detail` under Recent Deliveries: it never holds a secret
    or the expected digest.
    """

    def __init__(self, status: int, reason: str, detail: str) -> None:
        self.status = status
        self.reason = reason
        self.detail = detail
        super().__init__(f"{status} {reason}: {detail}")


class TransientError(ReceiverError):
    """What failed may work later; `retry_after_seconds` is what the other side asked for, if it did.

    `in_doubt` is whether the step may have been done all the same, its answer lost.
    """

    def __init__(self, message: str, *, retry_after_seconds: float | None = None, in_doubt: bool = False) -> None:
        self.retry_after_seconds = retry_after_seconds
        self.in_doubt = in_doubt
        super().__init__(message)


class OutageError(TransientError):
    """The other side as a whole is away: no fault of the one request, so it must not cost that job its patience."""


class JournalError(TransientError):
    """The journal could not commit or could not be read."""


class ConflictError(JournalError):
    """Another process changed the same rows first; the same transaction, begun anew, sees what it did."""


class PermanentError(ReceiverError):
    """Trying the same again cannot help."""


class NotFoundError(PermanentError):
    """What was asked for does not exist."""


class TamperedError(ReceiverError):
    """The journal holds what the receiver never writes: whoever trusts it must stop until a person has looked."""
