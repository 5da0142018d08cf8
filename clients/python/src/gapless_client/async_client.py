"""The client for asyncio."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self, TypeVar

import httpx

from gapless_client import core, queries
from gapless_client.client import STREAM_TIMEOUT, TIMEOUT, reached
from gapless_client.core import Answer, Call, Send, Sleep, Steps, checked
from gapless_client.document import Page, RowSchema
from gapless_client.errors import GaplessError, Retries, UnreachableError
from gapless_client.events import Following, Message, OnProgress, OnState
from gapless_client.queries import Query, Where

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa

T = TypeVar("T")
AsyncToken = str | Callable[[], Awaitable[str]]


class AsyncGapless:
    """Reads a Gapless API as :class:`gapless_client.Gapless` does, with the same methods and arguments.

    ``page``, ``list`` and ``get`` are awaited; rows and streams are iterated over with ``async for``. What fetches a
    token is a coroutine function.
    """

    def __init__(
        self,
        url: str,
        *,
        key: str | None = None,
        token: AsyncToken | None = None,
        retries: Retries = Retries(),  # noqa: B008  # frozen
        http: httpx.AsyncClient | None = None,
    ) -> None:
        self._core = core.Core(url.rstrip("/"), key, token, retries)
        self._is_own = http is None
        self._http = http or httpx.AsyncClient(timeout=TIMEOUT, follow_redirects=True)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: type[BaseException] | BaseException | TracebackType | None) -> None:
        await self.close()

    async def close(self) -> None:
        """Close all connections."""
        if self._is_own:
            await self._http.aclose()

    async def page(self, contract: str, event: str, *, where: Where | None = None, **parameters: Any) -> Page:
        """One page of an event's rows."""
        return await self._run(self._core.page(queries.of_event(queries.EVENT, contract, event, parameters, where)))

    def rows(self, contract: str, event: str, *, where: Where | None = None, **parameters: Any) -> "AsyncRows":
        """All rows of an event that a query finds."""
        return AsyncRows(self, queries.of_event(queries.EVENT, contract, event, parameters, where))

    def daily(self, contract: str, event: str, *, where: Where | None = None, **parameters: Any) -> "AsyncRows":
        """An event day by day."""
        return AsyncRows(self, queries.of_event(queries.DAILY, contract, event, parameters, where))

    def series(self, contract: str, series: str, **parameters: Any) -> "AsyncRows":
        """All points of a snapshot series."""
        return AsyncRows(self, queries.of_series(contract, series, parameters))

    def feed(self, **parameters: Any) -> "AsyncRows":
        """All events of a chain in one order."""
        return AsyncRows(self, queries.query(queries.FEED, parameters))

    async def derived_page(self, table: str, *, where: Where | None = None, **parameters: Any) -> Page:
        """One page of a derived table or of a program's table."""
        return await self._run(self._core.page(queries.of_derived(table, parameters, where)))

    def derived(self, table: str, *, where: Where | None = None, **parameters: Any) -> "AsyncRows":
        """All rows of a derived table that a query finds."""
        return AsyncRows(self, queries.of_derived(table, parameters, where))

    async def list(self, path: str, **parameters: Any) -> Page:
        """A page of any path that answers a list."""
        return await self._run(self._core.page(queries.query(path, parameters)))

    def all(self, path: str, **parameters: Any) -> "AsyncRows":
        """All rows of any path that answers a list."""
        return AsyncRows(self, queries.query(path, parameters))

    async def get(self, path: str, **parameters: Any) -> Any:
        """What any path answers."""
        return await self._run(self._core.get(queries.query(path, parameters)))

    def stream(
        self,
        contract: str,
        event: str,
        *,
        where: Where | None = None,
        after: str | None = None,
        on_state: OnState | None = None,
        on_progress: OnProgress | None = None,
        **parameters: Any,
    ) -> AsyncIterator[Message]:
        """Rows of an event as they are indexed."""
        query = queries.of_event(queries.STREAM, contract, event, parameters, where)
        return self._stream(query, after, on_state, on_progress)

    def stream_all(
        self,
        *,
        after: str | None = None,
        on_state: OnState | None = None,
        on_progress: OnProgress | None = None,
        **parameters: Any,
    ) -> AsyncIterator[Message]:
        """All events of a chain as they are indexed."""
        return self._stream(queries.query(queries.FEED_STREAM, parameters), after, on_state, on_progress)

    def stream_series(
        self,
        contract: str,
        series: str,
        *,
        after: str | None = None,
        on_state: OnState | None = None,
        on_progress: OnProgress | None = None,
        **parameters: Any,
    ) -> AsyncIterator[Message]:
        """The points of a snapshot series as they are taken. Arguments as for :meth:`stream`."""
        query = queries.of_series(contract, series, parameters, f"{queries.SERIES}/stream")
        return self._stream(query, after, on_state, on_progress)

    def stream_balances(
        self, address: str, *, on_state: OnState | None = None, on_progress: OnProgress | None = None, **parameters: Any
    ) -> AsyncIterator[Message]:
        """All balances of an address, at first and whenever one has changed: ``Balances``."""
        query = queries.query(queries.BALANCES_STREAM, {**parameters, "address": address})
        return self._stream(query, None, on_state, on_progress)

    def stream_derived(
        self,
        table: str,
        *,
        where: Where | None = None,
        after: str | None = None,
        on_state: OnState | None = None,
        on_progress: OnProgress | None = None,
        **parameters: Any,
    ) -> AsyncIterator[Message]:
        """Rows of a page of a derived table, and then what changes of them: ``DerivedRows``."""
        query = queries.of_derived(table, parameters, where, f"{queries.DERIVED}/stream")
        return self._stream(query, after, on_state, on_progress)

    async def pages(self, query: Query) -> AsyncIterator[Page]:
        """All pages of a query."""
        walk = queries.Walk(query)
        while walk.next is not None:
            page = await self._run(self._core.page(walk.next))
            walk.turn(page)
            yield page

    async def _run(self, steps: Steps[T]) -> T:
        try:
            step = next(steps)
            while True:
                try:
                    result: Any = None
                    match step:
                        case Send():
                            result = await self._send(step)
                        case Sleep():
                            await asyncio.sleep(step.seconds)
                        case Call():
                            result = await step.fetch()
                except UnreachableError as error:
                    step = steps.throw(error)
                else:
                    step = steps.send(result)
        except StopIteration as end:
            return end.value  # type: ignore[no-any-return]

    async def _send(self, step: Send) -> Answer:
        with reached():
            answer = await self._http.request(step.method, step.url, params=step.parameters, headers=step.headers)
        return Answer(answer.status_code, answer.headers, answer.text)

    async def _stream(
        self, query: Query, after: str | None, on_state: OnState | None, on_progress: OnProgress | None
    ) -> AsyncIterator[Message]:
        following = Following(after or "", self._core.retries, on_state, on_progress)
        try:
            while True:
                error: Exception | None = None
                try:
                    async for message in self._connection(query, following):
                        yield message
                except (GaplessError, UnreachableError) as broken:
                    error = broken
                await asyncio.sleep(following.broken(error))
        finally:
            following.closed()

    async def _connection(self, query: Query, following: Following) -> AsyncIterator[Message]:
        step = await self._run(self._core.stream_request(query, following.headers()))
        with reached():
            async with self._http.stream(
                step.method, step.url, params=step.parameters, headers=step.headers, timeout=STREAM_TIMEOUT
            ) as answer:
                if not answer.is_success:
                    checked(
                        Answer(answer.status_code, answer.headers, (await answer.aread()).decode("utf-8", "replace"))
                    )
                following.opened()
                async for piece in answer.aiter_bytes():
                    for event in following.feed(piece):
                        if (row := following.unknown(event)) is not None:
                            following.learn(row, await self._run(self._core.row_decoder(query, row)))
                        if (message := following.message(event)) is not None:
                            yield message


class AsyncRows:
    """All rows of a query: to iterate over, or to make a table of. Each use is a walk of its own."""

    def __init__(self, client: AsyncGapless, query: Query) -> None:
        self._client = client
        self._query = query

    async def __aiter__(self) -> AsyncIterator[dict[str, Any]]:
        async for page in self.pages():
            for row in page.rows:
                yield row

    def pages(self) -> AsyncIterator[Page]:
        """The pages."""
        return self._client.pages(self._query)

    async def to_arrow(self, *, binary: bool = False) -> "pa.Table":
        """All rows as an Arrow table, see :func:`gapless_client.tables.arrow_table`."""
        from gapless_client import tables

        found, schema = await self._collected()
        return tables.arrow_table(found, schema, binary=binary)

    async def to_pandas(self) -> "pd.DataFrame":
        """All rows as a data frame, see :func:`gapless_client.tables.data_frame`."""
        from gapless_client import tables

        return tables.data_frame(*await self._collected())

    async def _collected(self) -> tuple[list[list[dict[str, Any]]], RowSchema]:
        pages = [page async for page in self.pages()]
        return [page.rows for page in pages], pages[0].schema
