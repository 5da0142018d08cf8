import { refusal, UnreachableError } from "./errors.js";
import { delay, passes, pause, type Retries } from "./retry.js";
import { serverEvents } from "./sse.js";
import type { Connection, Message, Meta, Progress } from "./types.js";

/** What a stream tells beside its messages. */
export interface Hearing {
  /** Begin behind this cursor, or behind the row with this id; left out: with what comes next. */
  after?: string | undefined;
  signal?: AbortSignal | undefined;
  /** Every attempt, break and refusal. Left out, breaks are told to the console. */
  onState?: ((connection: Connection) => void) | undefined;
  /** Each time the stream has come further: "synced to `through`". */
  onProgress?: ((progress: Progress) => void) | undefined;
}

/**
 * The messages of a stream, over as many connections as it takes.
 *
 * @param open makes one connection that goes on behind a cursor.
 * @param row makes a row of what came.
 * @param silence seconds after which a silent connection is a broken one.
 */
export async function* stream<Item>(
  open: (after: string | undefined) => Promise<Response>,
  row: (data: unknown) => Item,
  { after, signal, onState = warn, onProgress }: Hearing,
  retries: Retries,
  silence: number,
): AsyncGenerator<Message<Item>, void, undefined> {
  const heard = { id: after ?? "", retry: 0 };
  let attempt = 0;
  try {
    while (!signal?.aborted) {
      attempt += 1;
      try {
        onState({ state: "connecting", attempt });
        const answer = await open(heard.id || undefined);
        if (!answer.ok) throw await refusal(answer);
        if (answer.body === null) throw new UnreachableError("the server sends no stream");
        onState({ state: "open" });
        for await (const { event, data, id } of serverEvents(answer.body, heard, silence, signal)) {
          attempt = 0; // it works
          const message = messageOf(event, JSON.parse(data) as Record<string, unknown>, id, row);
          if (message === null) continue;
          if (message.kind === "status") onProgress?.(message);
          yield message;
        }
        throw new UnreachableError("the server ended the stream");
      } catch (error) {
        if (signal?.aborted) return;
        if (!passes(error)) throw error;
        attempt = Math.max(attempt, 1);
        const seconds = Math.max(delay(attempt, error, retries, Math.random), attempt === 1 ? heard.retry / 1000 : 0);
        onState({ state: "waiting", error: error as Error, attempt, seconds });
        await pause(seconds, signal);
      }
    }
  } finally {
    onState({ state: "closed" });
  }
}

function messageOf<Item>(
  event: string,
  said: Record<string, unknown>,
  cursor: string,
  row: (data: unknown) => Item,
): Message<Item> | null {
  if (event === "row") return { kind: "row", row: row(said), cursor };
  if (event === "revert") return { kind: "revert", commonBlock: said["common_block"] as number, cursor };
  if (event === "balances") {
    return { kind: "balances", rows: (said["data"] as unknown[]).map(row), all: said["all"] === true, cursor };
  }
  if (event === "derived") {
    const [rows, gone] = [said["data"], said["gone"]].map((each) => (each as unknown[]).map(row)) as [Item[], Partial<Item>[]];
    return { kind: "derived", rows, gone, reset: said["reset"] === true, all: said["all"] === true, cursor };
  }
  if (event !== "status") return null;
  return {
    kind: "status",
    through: said["through_block"] as number | null,
    waitingFor: said["waiting_for_block"] as number | null,
    rewrites: said["rewrites"] as number,
    meta: said["meta"] as Meta,
    cursor,
  };
}

function warn(connection: Connection): void {
  if (connection.state !== "waiting") return;
  const { error, attempt, seconds } = connection;
  console.warn(`gapless: the stream broke (${error.message}); attempt ${attempt + 1} in ${seconds.toFixed(1)} s`);
}
