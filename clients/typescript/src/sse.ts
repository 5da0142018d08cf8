/** Server-sent events of an answer (HTML Living Standard, 9.2.6), as far as the API uses them. */

import { reached } from "./errors.js";

export interface ServerEvent {
  event: string;
  data: string;
  /** The last `id` that was sent, with this event or before. */
  id: string;
}

/** What a promise gives, if it does so in time. */
async function inTime<T>(what: Promise<T>, seconds: number): Promise<T> {
  let timer: ReturnType<typeof setTimeout> | undefined;
  const late = new Promise<never>((_, fail) => {
    timer = setTimeout(() => fail(new Error(`nothing came for ${seconds} s`)), 1000 * seconds);
  });
  try {
    return await Promise.race([what, late]);
  } finally {
    clearTimeout(timer);
  }
}

/** The events; `heard` is kept up to date, also where only the id moves. */
export async function* serverEvents(
  body: ReadableStream<Uint8Array>,
  heard: { id: string; retry: number },
  silence: number,
  signal?: AbortSignal,
): AsyncGenerator<ServerEvent, void, undefined> {
  const reader = body.getReader();
  const text = new TextDecoder();
  let rest = "";
  let event = "";
  let data: string[] = [];
  let id: string | null = null;
  try {
    for (;;) {
      const { done, value } = await reached(inTime(reader.read(), silence), signal);
      if (done) return;
      const lines = (rest + text.decode(value, { stream: true })).split("\n");
      rest = lines.pop() ?? "";
      for (const line of lines) {
        if (line === "") {
          // Only here: an event that breaks off behind its id has not been heard.
          if (id !== null) heard.id = id;
          if (data.length) yield { event, data: data.join("\n"), id: heard.id };
          [event, data, id] = ["", [], null];
          continue;
        }
        const colon = line.indexOf(":");
        const field = colon < 0 ? line : line.slice(0, colon);
        const said = colon < 0 ? "" : line.slice(colon + 1).replace(/^ /, "");
        if (field === "event") event = said;
        else if (field === "data") data.push(said);
        else if (field === "id") id = said;
        else if (field === "retry" && /^[0-9]+$/.test(said)) heard.retry = Number(said);
      }
    }
  } finally {
    await reader.cancel().catch(() => undefined);
  }
}
