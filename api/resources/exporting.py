"""Answering with an export."""

from collections.abc import Callable, Mapping
from typing import Any
from urllib.parse import quote

import falcon

from api.compression import accepts_gzip
from api.context import Context
from api.export import CSV_OPTIONS, NDJSON_OPTIONS, Export
from api.resources.base import MEDIA_TYPES
from api.sql.exports import Inline
from api.sql.statement import Binder, Statement
from api.state import State


def send_export(
    context: Context,
    request: falcon.Request,
    response: falcon.Response,
    *,
    state: Statement,
    values: Mapping[str, Any],
    check: Callable[[State], None],
    select: Callable[[Binder], str],
    head: bytes,
    name: str,
) -> None:
    """Make an export the response.

    What JSON says in ``meta`` is in headers: ``X-Complete`` and ``X-Indexed-Block``; for balances ``X-At-Block`` and,
    for those of one token, ``X-Exact``.

    Args:
        context: the API's parts.
        request: the request.
        response: the response.
        state: the statement of the state.
        values: of the request, with ``format``.
        check: refuses what the state does not allow.
        select: writes the query of the rows.
        head: sent before the rows.
        name: of the file, without its ending.

    Raises:
        ApiError: as ``check``; OVERLOADED if too many exports run.
    """
    export = Export(context.exports, context.export_slots, state.text, state.values(values))
    try:
        found = State.read(export.state[0] or b"")
        check(found)
        gzip = accepts_gzip(request.get_header("Accept-Encoding"))
        ending = values["format"]
        response.content_type = MEDIA_TYPES[ending] + ("; charset=utf-8" if ending == "csv" else "")
        response.set_header("Cache-Control", "no-store")
        response.set_header("X-Complete", "true" if found.complete else "false")
        response.set_header("X-Indexed-Block", "" if found.indexed is None else str(found.indexed))
        if found.held:
            told = found.meta(0)
            response.set_header("X-At-Block", "" if told["at_block"] is None else str(told["at_block"]))
            if found.held.of_token:
                response.set_header("X-Exact", "false" if found.held.problem else "true")
        response.set_header("Content-Disposition", f'attachment; filename="{quote(name, safe="~-")}.{ending}"')
        if gzip:
            response.set_header("Content-Encoding", "gzip")
        if request.method == "HEAD":
            export.close()
            return
        query = select(Inline(values, export.literal))
        options = CSV_OPTIONS if ending == "csv" else NDJSON_OPTIONS
        export.start(query, options=options, head=head, gzip=gzip)
    except BaseException:
        export.close()
        raise
    response.stream = export
