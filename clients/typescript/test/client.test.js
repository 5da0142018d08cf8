// The client against a server that does what a real one does seldom: npm test
import assert from "node:assert/strict";
import { createServer } from "node:http";
import { afterEach, test } from "node:test";
import { Gapless, GaplessError } from "../dist/index.js";

const schema = {
  events: { coins: { Transfer: { args: { value: true } } }, zoo: { Herd: { args: { herd: [{ legs: [true] }] } } } },
  series: {},
  paths: {
    "/v1/contracts/{contract}/events/{event}": { transactions: { "*": { value: true } } },
    "/v1/tokens/{address}/holders": { data: [{ balance: true }] },
  },
};
const QUICK = { firstDelay: 0.001 };
const META = { chain_id: 1, indexed_block: 9, head_block: 9, finalized_block: 5, lag_seconds: 0 };
const page = (data, next) => ({ data, page: { next, prev: null, last: null, limit: 2 }, meta: META });
const row = (id, value) => ({ id, args: { value } });
const sse = (id, event, data) => `id: ${id}\nevent: ${event}\ndata: ${JSON.stringify(data)}\n\n`;

let server;
afterEach(() => {
  server.closeAllConnections();
  server.close();
});

/** A server that gives one answer after the other; returns its URL and what it was asked. */
async function serving(...answers) {
  const asked = [];
  server = createServer((request, response) => {
    asked.push([request.method, request.url, request.headers.authorization]);
    answers.shift()(response);
  });
  await new Promise((resolve) => server.listen(0, "127.0.0.1", resolve));
  return { url: `http://127.0.0.1:${server.address().port}`, asked };
}

const json =
  (body, status = 200, headers = {}) =>
  (response) =>
    response.writeHead(status, { "Content-Type": "application/json", ...headers }).end(JSON.stringify(body));

async function all(rows) {
  const found = [];
  for await (const one of rows) found.push(one);
  return found;
}

test("a walk follows the pages, and digits become bigint where the schema says so and nowhere else", async () => {
  const big = "115792089237316195423570985008687907853269984665640564039457584007913129639935";
  const { url, asked } = await serving(json(page([row("3-1", big)], "a b")), json(page([row("2-1", "7")], null)));
  const rows = await all(new Gapless(schema, { url }).rows("coins", "Transfer", { "arg.value.gt": 5n, limit: 1 }));
  assert.deepEqual(rows, [row("3-1", 2n ** 256n - 1n), row("2-1", 7n)]);
  assert.deepEqual(
    asked.map(([, path]) => path),
    [1, 2].map((n) => `/v1/contracts/coins/events/Transfer?arg.value.gt=5&limit=1${n === 2 ? "&after=a+b" : ""}`),
  );
});

test("inside arrays and tuples, too", async () => {
  const herd = { args: { herd: [{ legs: ["4", "2"], name: "12" }, { legs: [], name: null }] } };
  const { url } = await serving(json(page([herd], null)));
  const { rows } = await new Gapless(schema, { url }).page("zoo", "Herd");
  assert.deepEqual(rows[0].args.herd, [{ legs: [4n, 2n], name: "12" }, { legs: [], name: null }]);
});

test("a reorganisation during a walk is an error that knows where to go on", async () => {
  const body = { error: "the cursor's block was reorganised away", code: "REORGED", common_block: 17 };
  const { url } = await serving(json(page([row("18-1", "1")], "18-1.aa")), json(body, 409, { "X-Request-Id": "r1" }));
  await assert.rejects(all(new Gapless(schema, { url }).rows("coins", "Transfer")), (error) => {
    assert(error instanceof GaplessError);
    assert.deepEqual([error.reorged, error.commonBlock, error.status, error.requestId], [true, 17, 409, "r1"]);
    return true;
  });
});

test("what something in between answers is an error, too", async () => {
  const { url } = await serving((response) => response.writeHead(404).end("<html>nothing here"));
  await assert.rejects(new Gapless(schema, { url }).get("/v1", {}), /404: <html>nothing here/);
});

test("a stream that breaks goes on where it was, and tells what was taken back", async () => {
  const first = `retry: 10\n\n${sse("9-0.aa", "status", { through_block: 9, waiting_for_block: null, rewrites: 2, meta: META })}`;
  const { url, asked } = await serving(
    (response) => {
      const bytes = Buffer.from(first + sse("10-1.bb", "row", row("10-1", "5")) + ": heartbeat\nid: 11-9.cc\n\nid: 12-1.ee\nevent: row\nda");
      response.writeHead(200, { "Content-Type": "text/event-stream" });
      for (const byte of bytes) response.write(Buffer.from([byte]));
      setTimeout(() => response.destroy(), 50);
    },
    json({ error: "all streams are taken", code: "STREAMS_FULL" }, 503, { "Retry-After": "0" }),
    (response) => {
      response.writeHead(200, { "Content-Type": "text/event-stream" });
      response.write(sse("9-0.aa", "revert", { common_block: 9 }) + sse("10-1.dd", "row", row("10-1", "6")));
    },
  );
  const stop = new AbortController();
  const heard = [];
  const states = [];
  const progress = [];
  const hearing = {
    signal: stop.signal,
    onState: (connection) => states.push(connection),
    onProgress: ({ through }) => progress.push(through),
  };
  for await (const message of new Gapless(schema, { url, retries: QUICK }).stream("coins", "Transfer", {}, hearing)) {
    heard.push(message);
    if (heard.length === 4) stop.abort();
  }
  assert.deepEqual(heard, [
    { kind: "status", through: 9, waitingFor: null, rewrites: 2, meta: META, cursor: "9-0.aa" },
    { kind: "row", row: row("10-1", 5n), cursor: "10-1.bb" },
    { kind: "revert", commonBlock: 9, cursor: "9-0.aa" },
    { kind: "row", row: row("10-1", 6n), cursor: "10-1.dd" },
  ]);
  assert.deepEqual(
    asked.map(([, path]) => path.split("?")[1]),
    [undefined, "after=11-9.cc", "after=11-9.cc"],
  );
  assert.deepEqual(
    states.map(({ state, attempt, error }) => [state, attempt, error?.name ?? null]),
    [
      ["connecting", 1, null],
      ["open", undefined, null],
      ["waiting", 1, "UnreachableError"],
      ["connecting", 2, null],
      ["waiting", 2, "GaplessError"],
      ["connecting", 3, null],
      ["open", undefined, null],
      ["closed", undefined, null],
    ],
  );
  assert.deepEqual(progress, [9]);
});

test("a stream without callbacks says on the console that it broke", async () => {
  const stop = new AbortController();
  const { url } = await serving(json({ error: "not now", code: "OVERLOADED" }, 503), (response) => {
    response.writeHead(200, { "Content-Type": "text/event-stream" });
    response.write(sse("1-1", "row", row("1-1", "1")));
  });
  const said = [];
  const warn = console.warn;
  console.warn = (text) => said.push(text);
  try {
    const gapless = new Gapless(schema, { url, retries: QUICK });
    for await (const _ of gapless.stream("coins", "Transfer", {}, { signal: stop.signal })) stop.abort();
  } finally {
    console.warn = warn;
  }
  assert.match(said.join("\n"), /^gapless: the stream broke \(not now\); attempt 2 in 0\.\d s$/);
});

test("what passes is tried again, as the server says; what does not is an error at once", async () => {
  const told = [];
  const busy = { error: "too many requests", code: "RATE_LIMITED" };
  const { url, asked } = await serving(
    json(busy, 429, { "Retry-After": "1" }),
    (response) => response.destroy(),
    (response) => {
      response.writeHead(200, { "Content-Length": "1000" }).write("{");
      setTimeout(() => response.destroy(), 20);
    },
    json({ error: "the database restarts", code: "DATABASE_UNAVAILABLE" }, 503),
    json(page([row("3-1", "1")], null)),
    json({ error: "no", code: "INVALID_PARAMETER" }, 400),
  );
  const gapless = new Gapless(schema, { url, retries: QUICK, onRetry: (retry) => told.push(retry) });
  const began = performance.now();
  assert.deepEqual((await gapless.page("coins", "Transfer")).rows, [row("3-1", 1n)]);
  assert(performance.now() - began >= 1000);
  assert.deepEqual(
    told.map(({ attempt, error }) => [attempt, error.name]),
    [
      [1, "GaplessError"],
      [2, "UnreachableError"],
      [3, "UnreachableError"],
      [4, "GaplessError"],
    ],
  );
  await assert.rejects(gapless.page("coins", "Transfer"), { code: "INVALID_PARAMETER" });
  assert.equal(asked.length, 6);
});

test("attempts have an end, and so has patience", async () => {
  const busy = (after) => json({ error: "busy", code: "OVERLOADED" }, 503, after ? { "Retry-After": after } : {});
  const first = await serving(busy(), busy());
  const twice = new Gapless(schema, { url: first.url, retries: { ...QUICK, attempts: 2 } });
  await assert.rejects(twice.page("coins", "Transfer"), { code: "OVERLOADED", retryAfter: null });
  server.close();
  const second = await serving(busy("3600"));
  const patient = new Gapless(schema, { url: second.url, retries: QUICK });
  await assert.rejects(patient.page("coins", "Transfer"), { code: "OVERLOADED", retryAfter: 3600 });
});

test("wait, count and transactions go through", async () => {
  const answer = {
    ...page([row("3-1", "1")], null),
    page: { next: null, prev: null, last: "3-1", limit: 1, count: 12, count_is: "exact" },
    transactions: { "0xaa": { value: "5", status: 1 }, "0xbb": null },
  };
  const { url, asked } = await serving(json(answer));
  const query = { count: "exact", include: ["token", "tx"], min_block: 7, wait: 10 };
  const found = await new Gapless(schema, { url }).page("coins", "Transfer", query);
  assert.deepEqual([found.count, found.countIs, found.tokens], [12, "exact", {}]);
  assert.deepEqual(found.transactions, { "0xaa": { value: 5n, status: 1 }, "0xbb": null });
  assert.equal(asked[0][1].split("?")[1], "count=exact&include=token%2Ctx&min_block=7&wait=10");
});

test("holders are walked as of one block", async () => {
  const holders = (balance, next) => ({ ...page([{ balance }], next), meta: { ...META, at_block: 5 } });
  const { url, asked } = await serving(json(holders("2", "c")), json(holders("1", null)));
  const walked = new Gapless(schema, { url }).all("/v1/tokens/{address}/holders", { address: "0xaa", limit: 1 });
  assert.deepEqual(await all(walked), [{ balance: 2n }, { balance: 1n }]);
  assert.deepEqual(
    asked.map(([, path]) => path),
    [
      "/v1/tokens/0xaa/holders?limit=1&finality=finalized",
      "/v1/tokens/0xaa/holders?limit=1&finality=finalized&at_block=5&after=c",
    ],
  );
});

test("rows of derived tables have their digits, too, and an older schema reads them as they come", async () => {
  const candle = (swaps, next) => page([{ pair: "0xaa", swaps, volume: "1.5" }], next);
  const { url, asked } = await serving(json(candle("2", "c")), json(candle(null, null)), json(candle("2", null)));
  const knowing = new Gapless({ ...schema, derived: { candles: { swaps: true } } }, { url });
  const query = { sort: "swaps", "col.pair.in": ["0xaa", "0xbb"], "col.swaps.gte": 5n, limit: 1 };
  const row = (swaps) => ({ pair: "0xaa", swaps, volume: "1.5" });
  assert.deepEqual(await all(knowing.derived("candles", query)), [row(2n), row(null)]);
  assert.deepEqual((await new Gapless(schema, { url }).derivedPage("candles")).rows, [row("2")]);
  const first = "/v1/derived/candles?sort=swaps&col.pair.in=0xaa%2C0xbb&col.swaps.gte=5&limit=1";
  assert.deepEqual(
    asked.map(([, path]) => path),
    [first, `${first}&after=c`, "/v1/derived/candles"],
  );
});

test("a name of a path that is missing is an error, and nothing is asked", async () => {
  const { url, asked } = await serving();
  await assert.rejects(new Gapless(schema, { url }).get("/v1/tokens/{address}/holders", {}), /needs address/);
  assert.deepEqual(asked, []);
});

test("an answer that does not come, and a stream that falls silent, are broken connections", async () => {
  const { url } = await serving(
    () => undefined,
    (response) => {
      response.writeHead(200, { "Content-Type": "text/event-stream" });
      response.write(sse("1-1", "row", row("1-1", "1")));
    },
    (response) => {
      response.writeHead(200, { "Content-Type": "text/event-stream" });
      response.write(sse("2-1", "row", row("2-1", "2")));
    },
  );
  const hasty = new Gapless(schema, { url, timeout: 0.1, retries: { ...QUICK, attempts: 1 } });
  await assert.rejects(hasty.page("coins", "Transfer"), { name: "UnreachableError" });
  const gapless = new Gapless(schema, { url, silence: 2, retries: QUICK });
  const stop = new AbortController();
  const [ids, broken] = [[], []];
  const onState = ({ error }) => error && broken.push(error.message);
  for await (const { row } of gapless.stream("coins", "Transfer", {}, { signal: stop.signal, onState })) {
    ids.push(row.id);
    if (ids.length === 2) stop.abort();
  }
  assert.deepEqual([ids, broken], [["1-1", "2-1"], ["nothing came for 2 s"]]);
});

test("balances come as a whole", async () => {
  const stop = new AbortController();
  const { url, asked } = await serving((response) => {
    response.writeHead(200, { "Content-Type": "text/event-stream" });
    response.write(sse("7-1", "balances", { all: true, data: [{ token: "0xbb", balance: "5" }] }));
  });
  const paths = { "/v1/addresses/{address}/balances": { data: [{ balance: true }] } };
  const gapless = new Gapless({ ...schema, paths }, { url });
  const heard = [];
  for await (const message of gapless.streamBalances("0xaa", { kind: "erc20" }, { signal: stop.signal, onState() {} })) {
    heard.push(message);
    stop.abort();
  }
  assert.deepEqual(heard, [{ kind: "balances", rows: [{ token: "0xbb", balance: 5n }], all: true, cursor: "7-1" }]);
  assert.equal(asked[0][1], "/v1/addresses/0xaa/balances/stream?kind=erc20");
});

test("changes of derived rows come with their types", async () => {
  const stop = new AbortController();
  const { url, asked } = await serving((response) => {
    response.writeHead(200, { "Content-Type": "text/event-stream" });
    const said = { reset: true, all: false, data: [{ pair: "0xaa", swaps: "5" }], gone: [{ pair: "0xbb" }] };
    response.write(sse("1-7-aa", "derived", said));
  });
  const gapless = new Gapless({ ...schema, derived: { candles: { swaps: true } } }, { url });
  const heard = [];
  const query = { "col.pair": "0xaa", order: "desc", limit: 1 };
  for await (const message of gapless.streamDerived("candles", query, { signal: stop.signal, onState() {} })) {
    heard.push(message);
    stop.abort();
  }
  const rows = [{ pair: "0xaa", swaps: 5n }];
  assert.deepEqual(heard, [{ kind: "derived", rows, gone: [{ pair: "0xbb" }], reset: true, all: false, cursor: "1-7-aa" }]);
  assert.equal(asked[0][1], "/v1/derived/candles/stream?col.pair=0xaa&order=desc&limit=1");
});

test("a refused stream is an error", async () => {
  const { url } = await serving(json({ error: "there is no such event", code: "EVENT_NOT_FOUND" }, 404));
  await assert.rejects(all(new Gapless(schema, { url }).stream("coins", "Transfer")), { code: "EVENT_NOT_FOUND" });
});

test("a key is never in an address: streams get a token for it", async () => {
  const stop = new AbortController();
  const { url, asked } = await serving(json(page([], null)), json({ data: { access_token: "short" } }), (response) => {
    response.writeHead(200, { "Content-Type": "text/event-stream" });
    response.write(sse("1-1", "row", row("1-1", "1")));
  });
  const gapless = new Gapless(schema, { url, key: "gapless_secret" });
  await all(gapless.rows("coins", "Transfer"));
  for await (const _ of gapless.stream("coins", "Transfer", {}, { signal: stop.signal })) stop.abort();
  const path = "/v1/contracts/coins/events/Transfer";
  assert.deepEqual(asked, [
    ["GET", path, "Bearer gapless_secret"],
    ["POST", "/v1/auth/token", "Bearer gapless_secret"],
    ["GET", `${path}/stream?access_token=short`, undefined],
  ]);
});
