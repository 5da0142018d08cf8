"""The client."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final, Self, TypeVar

import httpx

from gapless_client import core, queries
from gapless_client.core import Answer, Call, Send, Sleep, Steps, checked
from gapless_client.document import Page, RowSchema
from gapless_client.errors import GaplessError, Retries, UnreachableError
from gapless_client.events import Following, Message, OnProgress, OnState
from gapless_client.queries import Query, Where

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa

#: Seconds. A request may wait ten for a block; a stream is silent for fifteen at most.
TIMEOUT: Final = httpx.Timeout(30.0, connect=10.0)
STREAM_TIMEOUT: Final = httpx.Timeout(45.0, connect=10.0)
T = TypeVar("T")
Token = str | Callable[[], str]


class Gapless:
    """Reads a Gapless API.

    Queries take the parameters of the API by the same names; ``where`` has the conditions on arguments
    (``{"from": ..., "value.gte": ...}``), and a name that Python forbids takes an underscore (``from_``).

    Args:
        url: such as ``http://127.0.0.1:8000``.
        key: an API key.
        token: instead of a key, a short-lived token, or what fetches one.
        retries: how requests that were refused for the moment (429, 503, no network) are tried again.
        http: an httpx client of your own, with its proxies and certificates; you close it.
    """

    def __init__(
        self,
        url: str,
        *,
        key: str | None = None,
        token: Token | None = None,
        retries: Retries = Retries(),  # noqa: B008  # frozen
        http: httpx.Client | None = None,
    ) -> None:
        self._core = core.Core(url.rstrip("/"), key, token, retries)
        self._is_own = http is None
        self._http = http or httpx.Client(timeout=TIMEOUT, follow_redirects=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: type[BaseException] | BaseException | TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """Close all connections."""
        if self._is_own:
            self._http.close()

    def page(self, contract: str, event: str, *, where: Where | None = None, **parameters: Any) -> Page:
        """One page of an event's rows, newest first if ``order`` does not say otherwise.

        Raises:
            Reorged: the block of ``after`` or ``before`` was reorganised away.
            GaplessError: another refusal.
        """
        return self._run(self._core.page(queries.of_event(queries.EVENT, contract, event, parameters, where)))

    def rows(self, contract: str, event: str, *, where: Where | None = None, **parameters: Any) -> "Rows":
        """All rows of an event that a query finds, page after page: of one branch, or it ends with ``Reorged``."""
        return Rows(self, queries.of_event(queries.EVENT, contract, event, parameters, where))

    def daily(self, contract: str, event: str, *, where: Where | None = None, **parameters: Any) -> "Rows":
        """An event day by day (UTC): how many there were, and with ``sum=["value"]`` the sums of arguments."""
        return Rows(self, queries.of_event(queries.DAILY, contract, event, parameters, where))

    def series(self, contract: str, series: str, **parameters: Any) -> "Rows":
        """All points of a snapshot series."""
        return Rows(self, queries.of_series(contract, series, parameters))

    def feed(self, **parameters: Any) -> "Rows":
        """All events of a chain in one order."""
        return Rows(self, queries.query(queries.FEED, parameters))

    def derived_page(self, table: str, *, where: Where | None = None, **parameters: Any) -> Page:
        """One page of a derived table or of a program's table, by its key if ``sort`` does not say otherwise.

        Args:
            table: its name.
            where: conditions on columns of its key and its indexes: ``{"pair": ..., "hour.gte": ...}``.
            parameters: ``sort``, ``order``, ``limit``, ``after``, ``fields``, ``chain``.
        """
        return self._run(self._core.page(queries.of_derived(table, parameters, where)))

    def derived(self, table: str, *, where: Where | None = None, **parameters: Any) -> "Rows":
        """All rows of a derived table that a query finds, page after page.

        Each page is of the newest state: a row that changes meanwhile may come as it was or as it is.
        """
        return Rows(self, queries.of_derived(table, parameters, where))

    def list(self, path: str, **parameters: Any) -> Page:
        """A page of any path that answers a list: its names and its parameters together.

        Args:
            path: as the API's document has it: ``/v1/tokens/{address}/holders``.
            parameters: ``address=..., limit=10``.
        """
        return self._run(self._core.page(queries.query(path, parameters)))

    def all(self, path: str, **parameters: Any) -> "Rows":
        """All rows of any path that answers a list.

        Balances and holders are as of one block: a finalized one, if the query names none.
        """
        return Rows(self, queries.query(path, parameters))

    def get(self, path: str, **parameters: Any) -> Any:
        """What any path answers, with every integer an ``int``."""
        return self._run(self._core.get(queries.query(path, parameters)))

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
    ) -> Iterator[Message]:
        """Rows of an event as they are indexed, in the order of the chain, each once.

        It comes back after a break, where it was, and says so. Keep the ``cursor`` of the last message to go on from in
        another process.

        Args:
            contract: its name or an address.
            event: its name.
            where: conditions on arguments.
            after: a cursor, or a row's id; left out, it begins with what comes next.
            on_state: hears of every attempt and break; left out, breaks are logged as warnings.
            on_progress: hears how far the stream is.
            parameters: ``address``, ``finality``, ``fields``, ``chain``.

        Raises:
            GaplessError: a refusal that does not pass by itself.
        """
        query = queries.of_event(queries.STREAM, contract, event, parameters, where)
        return self._stream(query, after, on_state, on_progress)

    def stream_all(
        self,
        *,
        after: str | None = None,
        on_state: OnState | None = None,
        on_progress: OnProgress | None = None,
        **parameters: Any,
    ) -> Iterator[Message]:
        """All events of a chain as they are indexed, in one order. Arguments as for :meth:`stream`."""
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
    ) -> Iterator[Message]:
        """The points of a snapshot series as they are taken. Arguments as for :meth:`stream`."""
        query = queries.of_series(contract, series, parameters, f"{queries.SERIES}/stream")
        return self._stream(query, after, on_state, on_progress)

    def stream_balances(
        self, address: str, *, on_state: OnState | None = None, on_progress: OnProgress | None = None, **parameters: Any
    ) -> Iterator[Message]:
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
    ) -> Iterator[Message]:
        """Rows of a page of a derived table, and then what changes of them: ``DerivedRows``.

        A client that forgets at ``is_reset``, takes ``rows`` by key and leaves out ``gone`` has what the page has.

        Args:
            table: its name; one that is stored.
            where: conditions on columns of its key and its indexes.
            after: the ``cursor`` of a message.
            on_state: as for :meth:`stream`.
            on_progress: as for :meth:`stream`.
            parameters: ``sort``, ``order``, ``limit`` (at most 1000, and so many where it is left out), ``chain``.
        """
        query = queries.of_derived(table, parameters, where, f"{queries.DERIVED}/stream")
        return self._stream(query, after, on_state, on_progress)

    # -- what they are made of ----------------------------------------------------------------------------------------

    def pages(self, query: Query) -> Iterator[Page]:
        """All pages of a query."""
        walk = queries.Walk(query)
        while walk.next is not None:
            page = self._run(self._core.page(walk.next))
            walk.turn(page)
            yield page

    def _run(self, steps: Steps[T]) -> T:
        """Do what the steps say."""
        try:
            step = next(steps)
            while True:
                try:
                    result: Any = None
                    match step:
                        case Send():
                            result = self._send(step)
                        case Sleep():
                            time.sleep(step.seconds)
                        case Call():
                            result = step.fetch()
                except UnreachableError as error:
                    step = steps.throw(error)
                else:
                    step = steps.send(result)
        except StopIteration as end:
            return end.value  # type: ignore[no-any-return]

    def _send(self, step: Send) -> Answer:
        with reached():
            answer = self._http.request(step.method, step.url, params=step.parameters, headers=step.headers)
        return Answer(answer.status_code, answer.headers, answer.text)

    def _stream(
        self, query: Query, after: str | None, on_state: OnState | None, on_progress: OnProgress | None
    ) -> Iterator[Message]:
        following = Following(after or "", self._core.retries, on_state, on_progress)
        try:
            while True:
                error: Exception | None = None
                try:
                    yield from self._connection(query, following)
                except (GaplessError, UnreachableError) as broken:
                    error = broken
                time.sleep(following.broken(error))
        finally:
            following.closed()

    def _connection(self, query: Query, following: Following) -> Iterator[Message]:
        step = self._run(self._core.stream_request(query, following.headers()))
        with (
            reached(),
            self._http.stream(
                step.method, step.url, params=step.parameters, headers=step.headers, timeout=STREAM_TIMEOUT
            ) as answer,
        ):
            if not answer.is_success:
                checked(Answer(answer.status_code, answer.headers, answer.read().decode("utf-8", "replace")))
            following.opened()
            for piece in answer.iter_bytes():
                for event in following.feed(piece):
                    if (row := following.unknown(event)) is not None:
                        following.learn(row, self._run(self._core.row_decoder(query, row)))
                    if (message := following.message(event)) is not None:
                        yield message


class Rows:
    """All rows of a query: to iterate over, or to make a table of. Each use is a walk of its own."""

    def __init__(self, client: Gapless, query: Query) -> None:
        self._client = client
        self._query = query

    def __iter__(self) -> Iterator[dict[str, Any]]:
        for page in self.pages():
            yield from page.rows

    def pages(self) -> Iterator[Page]:
        """The pages.

        Raises:
            Reorged: a reorganisation took back where the walk was.
            GaplessError: another refusal.
        """
        return self._client.pages(self._query)

    def to_arrow(self, *, binary: bool = False) -> "pa.Table":
        """All rows as an Arrow table, see :func:`gapless_client.tables.arrow_table`."""
        from gapless_client import tables

        found, schema = self._collected()
        return tables.arrow_table(found, schema, binary=binary)

    def to_pandas(self) -> "pd.DataFrame":
        """All rows as a data frame, see :func:`gapless_client.tables.data_frame`."""
        from gapless_client import tables

        return tables.data_frame(*self._collected())

    def _collected(self) -> tuple[list[list[dict[str, Any]]], RowSchema]:
        pages = list(self.pages())
        return [page.rows for page in pages], pages[0].schema


@contextmanager
def reached() -> Iterator[None]:
    """Make an UnreachableError of what httpx says of the network."""
    try:
        yield
    except httpx.TransportError as error:
        raise UnreachableError(f"the server cannot be reached: {error or type(error).__name__}") from error
