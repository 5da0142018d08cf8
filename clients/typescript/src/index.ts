/**
 * Reads a Gapless API: rows with viem's types, page by page or as they are indexed.
 *
 * Works in browsers, in Node 20 and later, and wherever else there is `fetch`. It has no dependencies.
 */
import { decode, queryString } from "./decode.js";
import { refusal } from "./errors.js";
import { serverEvents } from "./sse.js";
import type { Digits, Message, Meta, Page, Query, Row, Schema } from "./types.js";

export { GaplessError } from "./errors.js";
export type { Address, Decoded, Digits, Hex, Message, Meta, Page, Query, Row, Schema, Token } from "./types.js";

export interface Options {
  /** Such as `http://127.0.0.1:8000`. */
  url: string;
  /** Where streams are served, if not behind a redirect from there: needed where CORS_ORIGINS is a list. */
  streamsUrl?: string;
  /** An API key, for programs on a server. A web page should not hold one: see `token`. */
  key?: string;
  /** A short-lived token, or what fetches one when needed, such as from a backend of yours that holds the key. */
  token?: string | (() => string | Promise<string>);
  /** Instead of the global one. */
  fetch?: typeof fetch;
}

interface Walk {
  /** Behind this cursor, or behind the row with this id. */
  after?: string | undefined;
  signal?: AbortSignal | undefined;
}

interface Body {
  data: unknown[];
  page: { next: string | null; prev: string | null; last: string | null };
  meta: Meta;
  tokens?: Page<unknown>["tokens"];
}

/** A client for what a schema of gapless-types describes. */
export class Gapless<Events, Series> {
  readonly #schema: Schema<Events, Series>;
  readonly #options: Options;
  readonly #fetch: typeof fetch;

  constructor(schema: Schema<Events, Series>, options: Options) {
    this.#schema = schema;
    const [url, streamsUrl] = [options.url, options.streamsUrl ?? options.url].map((each) => each.replace(/\/+$/, ""));
    this.#options = { ...options, url: url!, streamsUrl: streamsUrl! };
    this.#fetch = options.fetch ?? ((input, init) => fetch(input, init));
  }

  /** One page of an event's rows, newest first if `order` does not say otherwise. */
  page<C extends keyof Events & string, E extends keyof Events[C] & string>(
    contract: C,
    event: E,
    query: Partial<Query<Events[C][E]>> & { before?: string } = {},
    walk: Walk = {},
  ): Promise<Page<Row<Events[C][E]>>> {
    return this.#page(rowsPath(contract, "events", event), query, walk, this.#schema.events[contract][event]);
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
    query: Partial<Query<Events[C][E]>> = {},
    walk: Walk = {},
  ): AsyncGenerator<Row<Events[C][E]>, void, undefined> {
    return this.#rows(rowsPath(contract, "events", event), query, walk, this.#schema.events[contract][event]);
  }

  /** All points of a snapshot series, as `rows` does it. */
  series<C extends keyof Series & string, S extends keyof Series[C] & string>(
    contract: C,
    name: S,
    query: Partial<Query<Series[C][S]>> = {},
    walk: Walk = {},
  ): AsyncGenerator<Row<Series[C][S]>, void, undefined> {
    return this.#rows(rowsPath(contract, "snapshots", name), query, walk, this.#schema.series[contract][name]);
  }

  /**
   * Rows as they are indexed, in the order of the chain, each once; `revert` where a reorganisation took some back.
   *
   * It comes back by itself after a break, where it was. Without `after` it begins with what comes next. Keep the
   * `cursor` of the last message to go on from in another process. Ends when `signal` is aborted.
   */
  async *stream<C extends keyof Events & string, E extends keyof Events[C] & string>(
    contract: C,
    event: E,
    query: Partial<Pick<Query<Events[C][E]>, StreamQuery<Events[C][E]>>> = {},
    { after, signal }: Walk = {},
  ): AsyncGenerator<Message<Row<Events[C][E]>>, void, undefined> {
    const digits = this.#schema.events[contract][event];
    const heard = { id: after ?? "", retry: 3000 };
    while (!signal?.aborted) {
      try {
        const secret = (await this.#secret(true)) ?? undefined;
        const asked = queryString({ ...query, after: heard.id || undefined, access_token: secret });
        const path = `${rowsPath(contract, "events", event)}/stream`;
        const answer = await this.#ask(path, asked, { signal, accept: "text/event-stream", bare: true });
        if (answer.body === null) return;
        for await (const { event: kind, data, id } of serverEvents(answer.body, heard)) {
          const said = JSON.parse(data) as Record<string, unknown>;
          if (kind === "row") yield { kind, row: decode(said, digits) as Row<Events[C][E]>, cursor: id };
          else if (kind === "revert") yield { kind, commonBlock: said["common_block"] as number, cursor: id };
          else if (kind === "status") {
            yield {
              kind,
              through: said["through_block"] as number | null,
              waitingFor: said["waiting_for_block"] as number | null,
              rewrites: said["rewrites"] as number,
              meta: said["meta"] as Meta,
              cursor: id,
            };
          }
        }
      } catch (error) {
        if (signal?.aborted) return;
        if (!passes(error)) throw error;
        heard.retry = Math.max(heard.retry, 1000 * ((error as { retryAfter?: number | null }).retryAfter ?? 0));
      }
      await pause(heard.retry, signal);
    }
  }

  /** Any other path, as it comes. `paths` in the generated file has its types. */
  async get<T = unknown>(path: string, query: object = {}, signal?: AbortSignal): Promise<T> {
    return (await (await this.#ask(path, queryString(query), { signal })).json()) as T;
  }

  async #page<Item>(path: string, query: object, { after, signal }: Walk, digits: Digits): Promise<Page<Item>> {
    const answer = await this.#ask(path, queryString({ ...query, after }), { signal });
    const { data, page, meta, tokens } = (await answer.json()) as Body;
    const rows = data.map((row) => decode(row, digits) as Item);
    return { rows, next: page.next, prev: page.prev, last: page.last, meta, tokens: tokens ?? {} };
  }

  async *#rows<Item>(path: string, query: object, walk: Walk, digits: Digits): AsyncGenerator<Item, void, undefined> {
    let after = walk.after;
    do {
      const page = await this.#page<Item>(path, query, { ...walk, after }, digits);
      yield* page.rows;
      after = page.next ?? undefined;
    } while (after !== undefined);
  }

  /** What to show: the token, or the key. A stream is served elsewhere and takes a token only, in its address. */
  async #secret(forStream: boolean): Promise<string | null> {
    const { key, token } = this.#options;
    if (token !== undefined) return typeof token === "string" ? token : token();
    if (key === undefined || !forStream) return key ?? null;
    const headers = { Authorization: `Bearer ${key}` };
    const answer = await this.#fetch(`${this.#options.url}/v1/auth/token`, { method: "POST", headers });
    if (!answer.ok) throw await refusal(answer);
    return ((await answer.json()) as { data: { access_token: string } }).data.access_token;
  }

  async #ask(
    path: string,
    query: string,
    how: { signal?: AbortSignal | undefined; accept?: string; bare?: boolean },
  ): Promise<Response> {
    const secret = how.bare ? null : await this.#secret(false);
    const headers: Record<string, string> = { Accept: how.accept ?? "application/json" };
    if (secret !== null) headers["Authorization"] = `Bearer ${secret}`;
    const url = `${how.bare ? this.#options.streamsUrl : this.#options.url}${path}${query && "?"}${query}`;
    const answer = await this.#fetch(url, { headers, ...(how.signal ? { signal: how.signal } : {}) });
    if (!answer.ok) throw await refusal(answer);
    return answer;
  }
}

/** The filters that a stream takes. */
type StreamQuery<Operation> = Extract<keyof Query<Operation>, "chain" | "address" | "finality" | `arg.${string}`>;

const rowsPath = (contract: string, kind: string, name: string): string =>
  `/v1/contracts/${encodeURIComponent(contract)}/${kind}/${encodeURIComponent(name)}`;

/** Whether it is worth coming back: the network's troubles are no GaplessError and have no status. */
function passes(error: unknown): boolean {
  if (!(error instanceof Error)) return false;
  const status = "status" in error ? error.status : undefined;
  return status === undefined ? !(error instanceof SyntaxError) : status === 429 || status === 502 || status === 503 || status === 504;
}

function pause(milliseconds: number, signal?: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    if (signal?.aborted) return resolve();
    const timer = setTimeout(done, milliseconds);
    signal?.addEventListener("abort", done, { once: true });
    function done(): void {
      clearTimeout(timer);
      signal?.removeEventListener("abort", done);
      resolve();
    }
  });
}
