/**
 * Reads a Gapless API: rows with viem's types, page by page or as they are indexed.
 *
 * Works in browsers, in Node 20 and later, and wherever else there is `fetch`. It has no dependencies.
 */
import { decode, filled, queryString } from "./decode.js";
import { reached, refusal } from "./errors.js";
import { delay, passes, pause, RETRIES, type Retries } from "./retry.js";
import { type Hearing, stream } from "./stream.js";
import type {
  Body,
  DailyQuery,
  Day,
  DerivedQuery,
  DerivedRow,
  DerivedStreamQuery,
  Digits,
  Hex,
  Item,
  ListQuery,
  Message,
  Meta,
  Names,
  Page,
  Query,
  Readable,
  Row,
  RowsQuery,
  Schema,
  SeriesPath,
  StreamQuery,
} from "./types.js";

export { GaplessError, UnreachableError } from "./errors.js";
export type { Retries } from "./retry.js";
export type { Hearing } from "./stream.js";
export type {
  Address,
  Body,
  Connection,
  DailyQuery,
  Day,
  Decoded,
  DerivedFilters,
  DerivedQuery,
  DerivedRow,
  DerivedStreamQuery,
  DerivedTable,
  Digits,
  Filters,
  Hex,
  Item,
  ListQuery,
  Message,
  Meta,
  Page,
  Progress,
  Query,
  Row,
  RowsQuery,
  Schema,
  StreamQuery,
  Token,
  Transaction,
} from "./types.js";

export interface Options {
  /** Such as `http://127.0.0.1:8000`. */
  url: string;
  /** An API key, for programs on a server. A web page should not hold one: see `token`. */
  key?: string;
  /** A short-lived token, or what fetches one when needed, such as from a backend of yours that holds the key. */
  token?: string | (() => string | Promise<string>);
  /** Instead of the global one. */
  fetch?: typeof fetch;
  /** Seconds for one answer; a request may wait ten of them for a block (30). */
  timeout?: number;
  /** Seconds for which a stream may be silent before it counts as broken; the server says something every 15 (45). */
  silence?: number;
  /** How requests that were refused for the moment (429, 503, no network) are tried again. */
  retries?: Partial<Retries>;
  /** Told of each request that will be tried again. */
  onRetry?: (retry: { path: string; error: Error; attempt: number; seconds: number }) => void;
}

/** How a walk begins and ends. */
export interface Walk {
  /** Behind this cursor, or behind the row with this id. */
  after?: string | undefined;
  signal?: AbortSignal | undefined;
}

interface Raw {
  data: unknown[];
  page: { next: string | null; prev: string | null; last: string | null; count?: number; count_is?: "exact" | "estimated" };
  meta: Meta;
  tokens?: Page<unknown>["tokens"];
  transactions?: Page<unknown>["transactions"];
}

const EVENT = "/v1/contracts/{contract}/events/{event}";
const SERIES = "/v1/contracts/{contract}/snapshots/{series}";
const DERIVED = "/v1/derived/{table}";

/** A client for what a schema of gapless-types describes. */
export class Gapless<Paths, Events, Series, Derived = {}> {
  readonly #schema: Schema<Paths, Events, Series, Derived>;
  readonly #options: Options;
  readonly #retries: Retries;
  readonly #fetch: typeof fetch;

  constructor(schema: Schema<Paths, Events, Series, Derived>, options: Options) {
    this.#schema = schema;
    this.#options = { ...options, url: options.url.replace(/\/+$/, "") };
    this.#retries = { ...RETRIES, ...options.retries };
    this.#fetch = options.fetch ?? ((input, init) => fetch(input, init));
  }

  /** One page of an event's rows, newest first if `order` does not say otherwise. */
  page<C extends keyof Events & string, E extends keyof Events[C] & string>(
    contract: C,
    event: E,
    query: Partial<RowsQuery<Paths, Events[C][E]>> = {},
    walk: Walk = {},
  ): Promise<Page<Row<Events[C][E]>>> {
    return this.#page(EVENT, { contract, event, ...query }, walk, this.#schema.events[contract][event]);
  }

  /**
   * All rows of an event that a query finds, page after page. Stop whenever you like.
   *
   * With `finality: "finalized"` nothing of it is ever taken back. Otherwise a reorganisation in between ends it with a
   * GaplessError that is `reorged` and knows the `commonBlock`; rows up to that one are good.
   */
  rows<C extends keyof Events & string, E extends keyof Events[C] & string>(
    contract: C,
    event: E,
    query: Partial<RowsQuery<Paths, Events[C][E]>> = {},
    walk: Walk = {},
  ): AsyncGenerator<Row<Events[C][E]>, void, undefined> {
    return this.#rows(EVENT, { contract, event, ...query }, walk, this.#schema.events[contract][event]);
  }

  /** An event day by day (UTC), the newest first: how many there were, and with `sum` the sums of arguments. */
  daily<C extends keyof Events & string, E extends keyof Events[C] & string>(
    contract: C,
    event: E,
    query: Partial<DailyQuery<Paths, Events[C][E]>> = {},
    walk: Walk = {},
  ): AsyncGenerator<Day<Events[C][E]>, void, undefined> {
    return this.#rows(`${EVENT}/daily`, { contract, event, ...query }, walk, { sums: { "*": true } });
  }

  /** All points of a snapshot series, as `rows` does it. */
  series<C extends keyof Series & string, S extends keyof Series[C] & string>(
    contract: C,
    series: S,
    query: Partial<ListQuery<Paths, SeriesPath>> = {},
    walk: Walk = {},
  ): AsyncGenerator<Row<Series[C][S]>, void, undefined> {
    return this.#rows(SERIES, { contract, series, ...query }, walk, this.#schema.series[contract][series]);
  }

  /** One page of a derived table or of a program's table, by its key if `sort` does not say otherwise. */
  derivedPage<T extends keyof Derived & string>(
    table: T,
    query: Partial<DerivedQuery<Paths, Derived[T]>> = {},
    walk: Walk = {},
  ): Promise<Page<DerivedRow<Derived[T]>>> {
    return this.#page(DERIVED, { table, ...query }, walk, this.#schema.derived?.[table] ?? null);
  }

  /**
   * All rows of a derived table that a query finds, page after page.
   *
   * Each page is of the newest state: a row that is changed meanwhile may come as it was or as it is.
   */
  derived<T extends keyof Derived & string>(
    table: T,
    query: Partial<DerivedQuery<Paths, Derived[T]>> = {},
    walk: Walk = {},
  ): AsyncGenerator<DerivedRow<Derived[T]>, void, undefined> {
    return this.#rows(DERIVED, { table, ...query }, walk, this.#schema.derived?.[table] ?? null);
  }

  /** A page of any path that answers a list, such as `/v1/tokens/{address}/holders`: its names and its query together. */
  list<P extends Readable<Paths>>(
    path: P,
    parameters: Names<Paths, P> & Partial<ListQuery<Paths, P>>,
    walk: Walk = {},
  ): Promise<Page<Item<Paths, P>>> {
    return this.#page(path, parameters, walk, this.#items(path));
  }

  /**
   * All rows of any path that answers a list, page after page.
   *
   * Balances and holders are as of one block: a finalized one, if the query names none. Days, too, are as of the block up
   * to which the first page has them.
   */
  all<P extends Readable<Paths>>(
    path: P,
    parameters: Names<Paths, P> & Partial<ListQuery<Paths, P>>,
    walk: Walk = {},
  ): AsyncGenerator<Item<Paths, P>, void, undefined> {
    return this.#rows(path, parameters, walk, this.#items(path));
  }

  /** What any path answers: its names and its query together. */
  async get<P extends Readable<Paths>>(
    path: P,
    parameters: Names<Paths, P> & Partial<Query<Paths, P>>,
    signal?: AbortSignal,
  ): Promise<Body<Paths, P>> {
    const answer = await this.#ask(path, parameters, signal);
    return decode(answer, this.#schema.paths[path]) as Body<Paths, P>;
  }

  /**
   * Rows of an event as they are indexed, in the order of the chain, each once; `revert` where a reorganisation took some
   * back.
   *
   * It comes back after a break, where it was, and tells so (`onState`). Without `after` it begins with what comes next.
   * Keep the `cursor` of the last message to go on from in another process. Ends when `signal` is aborted.
   */
  stream<C extends keyof Events & string, E extends keyof Events[C] & string>(
    contract: C,
    event: E,
    query: Partial<StreamQuery<Paths, Events[C][E]>> = {},
    hearing: Hearing = {},
  ): AsyncGenerator<Message<Row<Events[C][E]>>, void, undefined> {
    const digits = this.#schema.events[contract][event];
    const row = (data: unknown) => decode(data, digits) as Row<Events[C][E]>;
    return this.#stream(`${EVENT}/stream`, { contract, event, ...query }, row, hearing);
  }

  /** All events of a chain as they are indexed, in one order: rows of `/v1/events`, with the types of each event. */
  streamAll(
    query: Partial<Omit<Query<Paths, "/v1/events/stream">, "after">> = {},
    hearing: Hearing = {},
  ): AsyncGenerator<Message<AnyRow<Events>>, void, undefined> {
    return this.#stream("/v1/events/stream", query, (data) => this.#anyRow(data), hearing);
  }

  /** The points of a snapshot series as they are taken; `revert` where a reorganisation took some back. */
  streamSeries<C extends keyof Series & string, S extends keyof Series[C] & string>(
    contract: C,
    series: S,
    query: Partial<Omit<Query<Paths, "/v1/contracts/{contract}/snapshots/{series}/stream">, "after">> = {},
    hearing: Hearing = {},
  ): AsyncGenerator<Message<Row<Series[C][S]>>, void, undefined> {
    const digits = this.#schema.series[contract][series];
    const row = (data: unknown) => decode(data, digits) as Row<Series[C][S]>;
    return this.#stream(`${SERIES}/stream`, { contract, series, ...query }, row, hearing);
  }

  /** All balances of an address, at first and whenever one of them has changed. */
  streamBalances(
    address: Hex,
    query: Partial<Omit<Query<Paths, "/v1/addresses/{address}/balances/stream">, "after">> = {},
    hearing: Hearing = {},
  ): AsyncGenerator<Message<Item<Paths, "/v1/addresses/{address}/balances">>, void, undefined> {
    const digits = this.#items("/v1/addresses/{address}/balances" as keyof Paths);
    const row = (data: unknown) => decode(data, digits) as Item<Paths, "/v1/addresses/{address}/balances">;
    return this.#stream("/v1/addresses/{address}/balances/stream", { address, ...query }, row, hearing);
  }

  /**
   * The rows of a page of a derived table, and then what changes of them.
   *
   * Who forgets all at `reset`, takes `rows` by their key and leaves out `gone` has what the page has.
   */
  streamDerived<T extends keyof Derived & string>(
    table: T,
    query: Partial<DerivedStreamQuery<Paths, Derived[T]>> = {},
    hearing: Hearing = {},
  ): AsyncGenerator<Message<DerivedRow<Derived[T]>>, void, undefined> {
    const digits = this.#schema.derived?.[table] ?? null;
    const row = (data: unknown) => decode(data, digits) as DerivedRow<Derived[T]>;
    return this.#stream(`${DERIVED}/stream`, { table, ...query }, row, hearing);
  }

  /** All events of a chain, page after page, in one order: each row has the types of its event. */
  async *feed(
    query: Partial<ListQuery<Paths, "/v1/events">> = {},
    walk: Walk = {},
  ): AsyncGenerator<AnyRow<Events>, void, undefined> {
    for await (const row of this.#rows("/v1/events", query, walk, null)) yield this.#anyRow(row);
  }

  #anyRow(data: unknown): AnyRow<Events> {
    const { contract, event } = data as { contract: keyof Events; event: string };
    const events = this.#schema.events[contract] as { readonly [event: string]: Digits } | undefined;
    return decode(data, events?.[event]) as AnyRow<Events>;
  }

  /** Where digits are in an item of a list. */
  #items(path: keyof Paths): Digits {
    const digits = this.#schema.paths[path] as { readonly data?: readonly [Digits] } | undefined;
    return digits?.data?.[0] ?? null;
  }

  async #page<One>(path: string, parameters: object, { after, signal }: Walk, digits: Digits): Promise<Page<One>> {
    const { data, ...rest } = (await this.#ask(path, { ...parameters, after }, signal)) as Raw;
    const whole = (this.#schema.paths as Record<string, Digits>)[path] ?? null;
    const { page, meta, tokens, transactions } = decode(rest, whole) as Raw;
    return {
      rows: data.map((row) => decode(row, digits) as One),
      next: page.next,
      prev: page.prev,
      last: page.last,
      count: page.count ?? null,
      countIs: page.count_is ?? null,
      meta,
      tokens: tokens ?? {},
      transactions: transactions ?? {},
    };
  }

  async *#rows<One>(path: string, parameters: object, walk: Walk, digits: Digits): AsyncGenerator<One, void, undefined> {
    let after = walk.after;
    let asked: Record<string, unknown> = { ...parameters };
    const isOfLedgers = /\/(balances|holders)$/.test(path);
    if (isOfLedgers && asked["at_block"] === undefined) asked["finality"] ??= "finalized";
    do {
      const page = await this.#page<One>(path, asked, { ...walk, after }, digits);
      yield* page.rows;
      after = page.next ?? undefined;
      // The cursors of these know no branch: the other pages are as of the block of the first one.
      const at = isOfLedgers ? page.meta.at_block : path.endsWith("/daily") ? page.meta.indexed_block : null;
      if (at != null) asked = { ...asked, at_block: asked["at_block"] ?? at };
    } while (after !== undefined);
  }

  #stream<One>(
    path: string,
    parameters: object,
    row: (data: unknown) => One,
    hearing: Hearing,
  ): AsyncGenerator<Message<One>, void, undefined> {
    const { signal } = hearing;
    const url = (query: object) => this.#url(path, { ...parameters, ...query });
    url({}); // what is wrong with it is wrong before anything is tried
    const open = async (after: string | undefined) => {
      // In the address, as EventSource does it: a header would make a browser ask for leave first.
      const secret = (await this.#secret(true)) ?? undefined;
      // Only its beginning has a deadline.
      const late = new AbortController();
      const timer = setTimeout(() => late.abort(new Error("no answer in time")), 1000 * (this.#options.timeout ?? 30));
      try {
        const init = { headers: { Accept: "text/event-stream" }, signal: either(late.signal, signal) };
        return await reached(this.#fetch(url({ after, access_token: secret }), init), signal);
      } finally {
        clearTimeout(timer);
      }
    };
    return stream(open, row, hearing, this.#retries, this.#options.silence ?? 45);
  }

  /** What to show: the token, or the key. A stream takes a token only, since that is shown in its address. */
  async #secret(forStream: boolean): Promise<string | null> {
    const { key, token } = this.#options;
    if (token !== undefined) return typeof token === "string" ? token : token();
    if (key === undefined || !forStream) return key ?? null;
    const headers = { Authorization: `Bearer ${key}` };
    const asked = this.#fetch(`${this.#options.url}/v1/auth/token`, { method: "POST", headers });
    const answer = await reached(asked, undefined);
    if (!answer.ok) throw await refusal(answer);
    return ((await answer.json()) as { data: { access_token: string } }).data.access_token;
  }

  #url(path: string, parameters: object): string {
    const query = Object.entries(parameters).filter(([name]) => !path.includes(`{${name}}`));
    const asked = queryString(Object.fromEntries(query));
    return `${this.#options.url}${filled(path, parameters)}${asked && "?"}${asked}`;
  }

  async #ask(path: string, parameters: object, signal: AbortSignal | undefined): Promise<unknown> {
    const url = this.#url(path, parameters);
    for (let attempt = 1; ; attempt += 1) {
      try {
        const secret = await this.#secret(false);
        const headers: Record<string, string> = { Accept: "application/json" };
        if (secret !== null) headers["Authorization"] = `Bearer ${secret}`;
        const late = AbortSignal.timeout(1000 * (this.#options.timeout ?? 30));
        const answer = await reached(this.#fetch(url, { headers, signal: either(late, signal) }), signal);
        if (!answer.ok) throw await refusal(answer);
        return JSON.parse(await reached(answer.text(), signal)) as unknown;
      } catch (error) {
        if (signal?.aborted || attempt >= this.#retries.attempts || !passes(error)) throw error;
        const seconds = delay(attempt, error, this.#retries, Math.random);
        if (seconds > this.#retries.longestDelay) throw error;
        this.#options.onRetry?.({ path, error: error as Error, attempt, seconds });
        await pause(seconds, signal);
        if (signal?.aborted) throw error;
      }
    }
  }
}

const either = (one: AbortSignal, other: AbortSignal | undefined): AbortSignal =>
  other === undefined ? one : AbortSignal.any([one, other]);

/** A row of any event, told apart by `contract` and `event`. */
export type AnyRow<Events> = {
  [C in keyof Events]: {
    [E in keyof Events[C]]: Row<Events[C][E]> & { contract: C; contracts: string[]; event: E };
  }[keyof Events[C]];
}[keyof Events];
