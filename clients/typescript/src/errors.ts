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
  const seconds = Number(answer.headers.get("Retry-After") ?? Number.NaN);
  return new GaplessError(
    typeof body["error"] === "string" ? body["error"] : `the server answers ${answer.status}: ${text.slice(0, 200)}`,
    answer.status,
    typeof body["code"] === "string" ? body["code"] : "UNKNOWN",
    Array.isArray(body["details"]) ? (body["details"] as GaplessError["details"]) : [],
    typeof body["common_block"] === "number" ? body["common_block"] : null,
    answer.headers.get("X-Request-Id"),
    Number.isFinite(seconds) ? seconds : null,
  );
}
