"""How the command ends: exit statuses, and the errors that carry them."""

from __future__ import annotations

from enum import IntEnum


class Exit(IntEnum):
    """The exit statuses. Through `make` all but DONE come out as 2; `EXIT_STATUS_FILE` gets the one that is meant."""

    DONE = 0
    FAILED = 1
    CHANGES = 2
    NOT_APPROVED = 3
    USAGE = 64
    INTERRUPTED = 130


class Stopped(Exception):
    """The command ends here: a message for a person, the exit status, and the kind of failure for a program."""

    def __init__(self, message: str, status: Exit = Exit.FAILED, kind: str = "CommandFailed") -> None:
        """Keep all three."""
        super().__init__(message)
        self.status = status
        self.kind = kind


class FunctionFailed(Stopped):
    """What the function raised: one of its named errors, with its message."""

    def __init__(self, kind: str, message: str) -> None:
        """Keep the kind, which decides what happens next."""
        is_gate = kind in {"ApprovalRequired", "PlanChanged"}
        super().__init__(f"the function failed: {kind}: {message}", Exit.NOT_APPROVED if is_gate else Exit.FAILED, kind)
        self.message = message
