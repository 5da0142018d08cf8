/** Hooks for React 18 and later: rows, rows as they are indexed, a balance. Their arguments are those of the client. */
import { useEffect, useState } from "react";
import type { Address, Connection, Gapless, Hearing, Meta, Page, Row, RowsQuery, StreamQuery } from "./index.js";

export interface Rows<Item> {
  /** Empty until they are there. */
  rows: Item[];
  /** The whole page: cursors, count, tokens, transactions. */
  page: Page<Item> | null;
  meta: Meta | null;
  loading: boolean;
  error: Error | null;
  /** Ask again; what is shown stays until the answer is there. */
  reload: () => void;
}

export interface LiveRows<Item> {
  /** The newest first; what a reorganisation took back is gone. */
  rows: Item[];
  /** "Synced to block N"; null until it is known. */
  through: number | null;
  /** A block that is wanted and not indexed yet, for which the stream waits. */
  waitingFor: number | null;
  connection: Connection;
  /** What does not pass by itself: there is no stream any more. */
  error: Error | null;
}

export interface Balance {
  /** Undefined until it is known. What is not listed by a complete answer is 0n. */
  balance: bigint | undefined;
  /** It is true at the end of this block. */
  atBlock: number | null;
  /** Whether it follows from the token's transfers. */
  exact: boolean | null;
  loading: boolean;
  error: Error | null;
}

/** A query as a text: what hooks compare, so that a query written in place is not a new one with every drawing. */
const keyOf = (...parts: unknown[]): string =>
  JSON.stringify(parts, (_, part: unknown) => (typeof part === "bigint" ? `${part}n` : part));

interface Asked<Answer> {
  key: string;
  answer: Answer | null;
  error: Error | null;
}

/** What a client answers, asked anew whenever it or the key changes, and every so many seconds where that is wanted. */
function useAnswer<Answer>(of: object, key: string, every: number, ask: (signal: AbortSignal) => Promise<Answer>): Asked<Answer> {
  const [asked, setAsked] = useState<Asked<Answer>>({ key, answer: null, error: null });
  useEffect(() => {
    const stop = new AbortController();
    let timer: ReturnType<typeof setTimeout> | undefined;
    const once = async (): Promise<void> => {
      try {
        const answer = await ask(stop.signal);
        if (!stop.signal.aborted) setAsked({ key, answer, error: null });
      } catch (error) {
        if (stop.signal.aborted) return;
        // What was known stays, beside the error.
        setAsked((before) => ({ key, answer: before.key === key ? before.answer : null, error: error as Error }));
      }
      if (every > 0 && !stop.signal.aborted) timer = setTimeout(() => void once(), 1000 * every);
    };
    void once();
    return () => {
      stop.abort();
      clearTimeout(timer);
    };
    // `ask` is new with every drawing; the key says whether it asks something else.
  }, [of, key, every]);
  return asked.key === key ? asked : { key, answer: null, error: null };
}

/** One page of an event's rows. */
export function useRows<
  Paths,
  Events,
  Series,
  Derived,
  C extends keyof Events & string,
  E extends keyof Events[C] & string,
>(
  gapless: Gapless<Paths, Events, Series, Derived>,
  contract: C,
  event: E,
  query: Partial<RowsQuery<Paths, Events[C][E]>> & { after?: string } = {},
): Rows<Row<Events[C][E]>> {
  const [turn, setTurn] = useState(0);
  const key = keyOf(contract, event, query);
  const [shown, setShown] = useState<{ key: string; page: Page<Row<Events[C][E]>> } | null>(null);
  const asked = useAnswer(gapless, `${turn} ${key}`, 0, async (signal) => {
    const { after, ...rest } = query;
    const page = await gapless.page(contract, event, rest as Partial<RowsQuery<Paths, Events[C][E]>>, { after, signal });
    setShown({ key, page });
    return page;
  });
  const page = asked.answer ?? (shown?.key === key ? shown.page : null);
  return {
    rows: page?.rows ?? [],
    page,
    meta: page?.meta ?? null,
    loading: asked.answer === null && asked.error === null,
    error: asked.error,
    reload: () => setTurn((before) => before + 1),
  };
}

/** The newest rows of an event, and what comes: one stream, over as many connections as it takes. */
export function useLiveRows<
  Paths,
  Events,
  Series,
  Derived,
  C extends keyof Events & string,
  E extends keyof Events[C] & string,
>(
  gapless: Gapless<Paths, Events, Series, Derived>,
  contract: C,
  event: E,
  query: Partial<StreamQuery<Paths, Events[C][E]>> = {},
  { limit = 50 }: { limit?: number } = {},
): LiveRows<Row<Events[C][E]>> {
  type Item = Row<Events[C][E]>;
  const key = keyOf(contract, event, query, limit);
  const begun: LiveRows<Item> & { key: string } = {
    key,
    rows: [],
    through: null,
    waitingFor: null,
    connection: { state: "connecting", attempt: 1 },
    error: null,
  };
  const [live, setLive] = useState(begun);
  useEffect(() => {
    const stop = new AbortController();
    const set = (change: (before: LiveRows<Item>) => Partial<LiveRows<Item>>): void => {
      if (stop.signal.aborted) return;
      setLive((before) => {
        const now = before.key === key ? before : begun;
        return { ...now, ...change(now) };
      });
    };
    const follow = async (): Promise<void> => {
      const newest = { ...query, limit, order: "desc" } as Partial<RowsQuery<Paths, Events[C][E]>>;
      const page = await gapless.page(contract, event, newest, { signal: stop.signal });
      set(() => ({ rows: page.rows, through: page.meta.indexed_block }));
      // From behind the oldest of these: its cursor may know its branch, so that a reorganisation since is told. What
      // is shown comes again, and is known by its id.
      const end = page.meta.indexed_block === null ? undefined : `${page.meta.indexed_block}-9223372036854775807`;
      const hearing: Hearing = {
        after: page.last ?? end,
        signal: stop.signal,
        onState: (connection) => set(() => ({ connection })),
        onProgress: ({ through, waitingFor }) => set((now) => ({ through: through ?? now.through, waitingFor })),
      };
      for await (const message of gapless.stream(contract, event, query, hearing)) {
        if (message.kind === "row") {
          // Rows come in the chain's order: all blocks before this one's have been said.
          set(({ rows, through }) => ({
            rows: withRow(rows, message.row, limit),
            through: Math.max(through ?? 0, block(message.row) - 1),
          }));
        } else if (message.kind === "revert") {
          set(({ rows, through }) => ({
            rows: rows.filter((row) => block(row) <= message.commonBlock),
            through: through === null ? null : Math.min(through, message.commonBlock),
          }));
        }
      }
    };
    follow().catch((error: Error) => set(() => ({ error, connection: { state: "closed" } })));
    return () => stop.abort();
    // The key stands for contract, event, query and limit.
  }, [gapless, key]);
  return live.key === key ? live : begun;
}

/** How much of a token an address has, looked at again every so many seconds. */
export function useBalance<Paths, Events, Series, Derived>(
  gapless: Gapless<Paths, Events, Series, Derived>,
  token: Address,
  holder: Address,
  { tokenId, every = 5, chain }: { tokenId?: bigint; every?: number; chain?: string } = {},
): Balance {
  const { answer, error } = useAnswer(gapless, keyOf(token, holder, chain), every, async (signal) => {
    const path = "/v1/addresses/{address}/balances";
    const asked = { address: holder, token: [token], chain, limit: 1000 };
    // The paths of a schema are not known here; those of every schema have this one.
    return (gapless as unknown as { list: AnyList }).list(path, asked, { signal });
  });
  const found = answer?.rows.find((row) => tokenId === undefined || row.token_id === tokenId);
  const isAll = answer !== null && answer.meta.complete === true && answer.next === null;
  return {
    balance: found?.balance ?? (isAll ? 0n : undefined),
    atBlock: found?.at_block ?? answer?.meta.at_block ?? null,
    exact: found?.exact ?? null,
    loading: answer === null && error === null,
    error,
  };
}

interface Holding {
  token_id: bigint | null;
  balance: bigint;
  at_block: number;
  exact: boolean;
}

type AnyList = (path: string, parameters: object, walk: { signal: AbortSignal }) => Promise<Page<Holding>>;

const block = (row: unknown): number => (row as { block_number: number }).block_number;
const place = (row: unknown): [number, number] => [block(row), (row as { log_index: number }).log_index];

/** Rows with one more, the newest first; one that is there already is not there twice. */
function withRow<Item>(rows: Item[], row: Item, limit: number): Item[] {
  const [number, log] = place(row);
  let at = rows.findIndex((other) => {
    const [otherNumber, otherLog] = place(other);
    return otherNumber < number || (otherNumber === number && otherLog <= log);
  });
  if (at < 0) at = rows.length;
  const isThere = at < rows.length && place(rows[at])[0] === number && place(rows[at])[1] === log;
  return [...rows.slice(0, at), row, ...rows.slice(isThere ? at + 1 : at)].slice(0, limit);
}
