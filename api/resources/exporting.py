"""Answering with an export."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any
from urllib.parse import quote

import falcon

from api.compression import accepts_gzip
from api.context import Context
from api.database import Row
from api.export import CSV_OPTIONS, NDJSON_OPTIONS, Export, csv_head
from api.resources.base import MEDIA_TYPES
from api.sql.exports import Inline
from api.sql.statement import Binder, Statement
from api.state import State


def send_export(
    context: Context,
    request: falcon.Request,
    response: falcon.Response,
    *,
    first: Statement,
    values: Mapping[str, Any],
    told: Callable[[Row], Mapping[str, str]],
    select: Callable[[Binder], str],
    names: Sequence[str],
    name: str,
) -> None:
    """Make an export the response.

    Args:
        context: the API's parts.
        request: the request.
        response: the response.
        first: a statement that is run before the rows are read, on the same snapshot of the database.
        values: of the request, with ``format``.
        told: what its row says in headers; refuses what it does not allow.
        select: writes the query of the rows.
        names: the columns of a CSV.
        name: of the file, without its ending.

    Raises:
        ApiError: as ``told``; OVERLOADED if too many exports run.
    """
    export = Export(context.exports, context.export_slots, first.text, first.values(values))
    try:
        headers = told(export.state)
        gzip = accepts_gzip(request.get_header("Accept-Encoding"))
        ending = values["format"]
        response.content_type = MEDIA_TYPES[ending] + ("; charset=utf-8" if ending == "csv" else "")
        response.set_header("Cache-Control", "no-store")
        response.set_headers(dict(headers))
        response.set_header("Content-Disposition", f'attachment; filename="{quote(name, safe="~-")}.{ending}"')
        if gzip:
            response.set_header("Content-Encoding", "gzip")
        if request.method == "HEAD":
            export.close()
            response.stream = ()  # without one, the answer would say that the export has 0 bytes
            return
        query = select(Inline(values, export.literal))
        as_csv = ending == "csv"
        options = CSV_OPTIONS if as_csv else NDJSON_OPTIONS
        export.start(query, options=options, head=csv_head(names) if as_csv else b"", gzip=gzip)
    except BaseException:
        export.close()
        raise
    response.stream = export


def told_of_state(check: Callable[[State], None]) -> Callable[[Row], Mapping[str, str]]:
    """For :func:`send_export`: what the state of a request says in headers, as JSON does in ``meta``.

    ``X-Complete`` and ``X-Indexed-Block``; for balances ``X-At-Block`` and, for those of one token, ``X-Exact``.

    Args:
        check: refuses what the state does not allow.
    """

    def told(row: Row) -> Mapping[str, str]:
        state = State.read(row[0] or b"")
        check(state)
        headers = {
            "X-Complete": "true" if state.complete else "false",
            "X-Indexed-Block": "" if state.indexed is None else str(state.indexed),
        }
        if state.held:
            at_block = state.held.meta(state.last)["at_block"]
            headers["X-At-Block"] = "" if at_block is None else str(at_block)
            if state.held.of_token:
                headers["X-Exact"] = "false" if state.held.problem else "true"
        return headers

    return told
