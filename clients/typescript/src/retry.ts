import { GaplessError, UnreachableError } from "./errors.js";

/** How often and how patiently what passes by itself is tried again. */
export interface Retries {
  /** Attempts of one request in all; 1 tries nothing again. A stream has no such bound. */
  attempts: number;
  /** Seconds before the second attempt; twice as long before each further one. */
  firstDelay: number;
  /** Seconds at most. A server that tells a longer Retry-After is not asked again. */
  longestDelay: number;
}

export const RETRIES: Retries = { attempts: 5, firstDelay: 0.5, longestDelay: 30 };

/** Whether it is worth coming back: too many requests, an overloaded server, one that is being started. */
export function passes(error: unknown): boolean {
  if (error instanceof GaplessError) return [429, 502, 503, 504].includes(error.status);
  return error instanceof UnreachableError;
}

/** Seconds before the next attempt: as the server says, else twice as long each time, less up to a half by chance. */
export function delay(attempt: number, error: unknown, retries: Retries, random: () => number): number {
  const told = error instanceof GaplessError ? error.retryAfter : null;
  const most = Math.min(retries.longestDelay, retries.firstDelay * 2 ** Math.min(attempt - 1, 20));
  const own = most * (1 - random() / 2);
  return told === null ? own : Math.max(told, Math.min(own, retries.firstDelay));
}

/** Wait; ends early when the signal is aborted. */
export function pause(seconds: number, signal?: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    if (signal?.aborted) return resolve();
    const timer = setTimeout(done, 1000 * seconds);
    signal?.addEventListener("abort", done, { once: true });
    function done(): void {
      clearTimeout(timer);
      signal?.removeEventListener("abort", done);
      resolve();
    }
  });
}
