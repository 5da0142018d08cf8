/** What the API refuses, by its `code`. */
export class GaplessError extends Error {
  override readonly name = "GaplessError";

  constructor(
    message: string,
    readonly status: number,
    readonly code: string,
    readonly details: { parameter: string; message: string }[],
    /** REORGED: throw away what was read above this block, and go on from there. */
    readonly commonBlock: number | null,
    /** It is in the server's log, too. */
    readonly requestId: string | null,
    /** Seconds to wait, where the server says so. */
    readonly retryAfter: number | null,
  ) {
    super(message);
  }

  /** Whether the cursor's block was reorganised away. */
  get reorged(): boolean {
    return this.code === "REORGED";
  }
}

/** The server cannot be reached, or the connection broke. */
export class UnreachableError extends Error {
  override readonly name = "UnreachableError";
}

/** What a promise of the network gives; its failure as an UnreachableError, unless it was the caller who gave up. */
export async function reached<T>(what: Promise<T>, signal: AbortSignal | null | undefined): Promise<T> {
  try {
    return await what;
  } catch (error) {
    if (signal?.aborted) throw error;
    const { message, cause } = error as Error & { cause?: Error };
    throw new UnreachableError(cause?.message ?? message, { cause: error });
  }
}

/** The error that an answer stands for, also where something between us and the API gave it. */
export async function refusal(answer: Response): Promise<GaplessError> {
  const text = await answer.text();
  let body: Record<string, unknown> = {};
  try {
    const read: unknown = JSON.parse(text);
    if (read !== null && typeof read === "object") body = read as Record<string, unknown>;
  } catch {
    // Not the API's own.
  }
  return new GaplessError(
    typeof body["error"] === "string" ? body["error"] : `the server answers ${answer.status}: ${text.slice(0, 200)}`,
    answer.status,
    typeof body["code"] === "string" ? body["code"] : "UNKNOWN",
    Array.isArray(body["details"]) ? (body["details"] as GaplessError["details"]) : [],
    typeof body["common_block"] === "number" ? body["common_block"] : null,
    answer.headers.get("X-Request-Id"),
    retryAfter(answer.headers.get("Retry-After"), Date.now()),
  );
}

/** Seconds that a header Retry-After tells to wait (RFC 9110, 10.2.3): a number or a date; null if it tells nothing. */
export function retryAfter(header: string | null, now: number): number | null {
  if (header === null) return null;
  if (/^[0-9]+$/.test(header.trim())) return Number(header);
  const date = Date.parse(header);
  return Number.isNaN(date) ? null : Math.max(0, (date - now) / 1000);
}
