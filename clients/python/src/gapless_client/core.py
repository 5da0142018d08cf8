"""What both clients do, without doing it: generators that say what to send and how long to wait."""

import json
from collections.abc import Callable, Generator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from random import random
from typing import Any, TypeVar

from gapless_client import queries
from gapless_client.document import Decode, Document, Page, Schema, decoder
from gapless_client.errors import GaplessError, Retries, UnreachableError, refusal
from gapless_client.queries import Query

T = TypeVar("T")


@dataclass(frozen=True)
class Send:
    """Send a request; the result is an :class:`Answer`, or an UnreachableError is thrown."""

    method: str
    url: str
    parameters: Mapping[str, str]
    headers: Mapping[str, str]


@dataclass(frozen=True)
class Answer:
    """What came back; ``headers`` by name in any case."""

    status: int
    headers: Mapping[str, str]
    text: str


@dataclass(frozen=True)
class Sleep:
    """Wait so many seconds."""

    seconds: float


@dataclass(frozen=True)
class Call:
    """Call what fetches a token; the result is the token."""

    fetch: Callable[[], Any]


Steps = Generator[Send | Sleep | Call, Any, T]


@dataclass
class Core:
    """The state of a client.

    Attributes:
        url: of the API.
        key: an API key.
        token: a token, or what fetches one.
        retries: how requests are tried again.
    """

    url: str
    key: str | None
    token: str | Callable[[], Any] | None
    retries: Retries
    _document: Document | None = None
    _names: dict[tuple[str, str | None], str] = field(default_factory=dict)  # of contracts, by address and chain

    def page(self, query: Query) -> Steps[Page]:
        """A page of rows."""
        answer = yield from self.ask(query)
        schema = (yield from self.row_schema(query)) if query.kind else None
        return query.page(answer, (yield from self.document()), schema)

    def get(self, query: Query) -> Steps[Any]:
        """What any path answers, with every integer an ``int``."""
        answer = yield from self.ask(query)
        decode = decoder((yield from self.document()).of_answer(query.path))
        return answer if decode is None else decode(answer)

    def ask(self, query: Query) -> Steps[Any]:
        """The JSON that a path answers.

        Raises:
            GaplessError: it is refused, for good or too often.
            UnreachableError: the server cannot be reached.
        """
        attempt = 1
        while True:
            try:
                secret = yield from self.secret(for_stream=False)
                headers = {"Accept": "application/json", **({"Authorization": f"Bearer {secret}"} if secret else {})}
                answer: Answer = yield Send("GET", self.url + query.target, query.asked, headers)
                return json.loads(checked(answer).text)
            except (GaplessError, UnreachableError) as error:
                yield Sleep(self.retries.next_delay(attempt, error, random()))
                attempt += 1

    def document(self) -> Steps[Document]:
        """The OpenAPI document, asked for once."""
        if self._document is None:
            self._document = Document((yield from self.ask(Query("/openapi.json", {}))))
        return self._document

    def row_schema(self, query: Query) -> Steps[Schema | None]:
        """The schema of the rows of an event, a series or a derived table."""
        contract = query.names.get("contract", "")
        if contract[:2].lower() == "0x":
            of = (contract, query.asked.get("chain"))  # contracts of several chains may have one address
            if of not in self._names:
                chain = {} if of[1] is None else {"chain": of[1]}
                named = yield from self.ask(Query("/v1/contracts/{contract}", {"contract": contract}, chain))
                self._names[of] = named["data"]["name"]
            query = query.of_contract(self._names[of])
        if (schema := query.row_schema((yield from self.document()))) is None:
            self._document = None  # it has come to be indexed since
            schema = query.row_schema((yield from self.document()))
        return schema

    def row_decoder(self, query: Query, row: Mapping[str, Any]) -> Steps[Decode]:
        """What makes a row of a stream's JSON.

        Args:
            query: the stream's.
            row: one of it: in the merged feed it says of which event it is.
        """
        if query.path == queries.BALANCES_STREAM:
            answer = (yield from self.document()).of_answer(queries.BALANCES)
            decode = decoder(answer.get("properties", {}).get("data", {}).get("items", {}))
            return (lambda value: value) if decode is None else decode
        if not query.kind:
            query = queries.of_event(queries.EVENT, row["contract"], row["event"], {}, None)
        decode = decoder((yield from self.row_schema(query)) or {})
        return (lambda value: value) if decode is None else decode

    def secret(self, *, for_stream: bool) -> Steps[str | None]:
        """The token, or the key. A stream takes a token only, since that is shown in its address."""
        if callable(self.token):
            token: str = yield Call(self.token)
            return token
        if self.token is not None or self.key is None or not for_stream:
            return self.token or self.key
        headers = {"Authorization": f"Bearer {self.key}"}
        answer: Answer = yield Send("POST", f"{self.url}/v1/auth/token", {}, headers)
        return str(json.loads(checked(answer).text)["data"]["access_token"])

    def stream_request(self, query: Query, headers: Mapping[str, str]) -> Steps[Send]:
        """The request that opens a stream."""
        secret = yield from self.secret(for_stream=True)
        asked = {**query.asked, **({"access_token": secret} if secret else {})}
        return Send("GET", self.url + query.target, asked, headers)


def checked(answer: Answer) -> Answer:
    """The answer.

    Raises:
        GaplessError: it is a refusal.
    """
    if 200 <= answer.status < 300:
        return answer
    raise refusal(answer.status, answer.headers, answer.text, datetime.now(UTC))
