"""Paths that end in a number of ours, such as ``/v1/keys/7``."""

from api.errors import ApiError


def numbered(text: str, what: str) -> int:
    """The number of a path.

    Args:
        text: as it stands in the path.
        what: of what, for people.

    Raises:
        ApiError: NOT_FOUND: it is no number, so that nothing has it.
    """
    if not (text.isascii() and text.isdigit() and len(text) < 10):
        raise nothing(what, text)
    return int(text)


def nothing(what: str, text: str) -> ApiError:
    """The refusal where there is nothing of that number."""
    return ApiError("NOT_FOUND", f"there is no {what} {text[:40]}")
