"""The errors that a person is meant to read.

Everything that Gapless raises on purpose derives from :class:`GaplessError`. The command line prints such an error
without a traceback; a traceback therefore always means a defect.
"""


class GaplessError(Exception):
    """Something went wrong in a way that was foreseen.

    Attributes:
        hint: what the reader can do about it, or None where the message says it already.
        exit_status: what the command line exits with.
    """

    exit_status = 1

    def __init__(self, message: str, *, hint: str | None = None) -> None:
        super().__init__(message)
        self.hint = hint
