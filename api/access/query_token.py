"""A token in the URL: for an ``EventSource`` of a browser, which cannot send headers, and for nothing else.

URLs are kept in logs and histories, so that only short-lived tokens are taken there, never a key.
"""

from typing import Final
from urllib.parse import unquote

PARAMETER: Final = "access_token"


def split(query_string: str) -> tuple[str | None, str]:
    """The token of a query string, and the query string without it.

    Given twice it is left where it is: the path refuses it like any parameter that it does not know.

    Args:
        query_string: as it was sent.
    """
    parts = query_string.split("&") if query_string else []
    mine = [part for part in parts if part.partition("=")[0] == PARAMETER]
    if len(mine) != 1:
        return None, query_string
    return unquote(mine[0].partition("=")[2]), "&".join(part for part in parts if part is not mine[0])
