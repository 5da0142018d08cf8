// Transfers of the demo's coins, with viem: npm run transfers [URL]
import { Gapless, GaplessError } from "gapless-client";
import { type Address, formatUnits, getAddress, type Hash, zeroAddress } from "viem";
import { schema } from "./gapless.js";

const url = process.argv[2] ?? process.env["GAPLESS_URL"] ?? "http://127.0.0.1:8000";
const gapless = new Gapless(schema, { url });

// A page, newest first, with the tokens' names.
const page = await gapless.page("coins", "Transfer", { limit: 3, include: ["token"] });
for (const row of page.rows) {
  const hash: Hash = row.tx_hash;
  const to: Address = row.args.to;
  const value: bigint = row.args.value;
  const token = page.tokens[row.address];
  const amount = token?.decimals == null ? `${value} units` : `${formatUnits(value, token.decimals)} ${token.symbol}`;
  console.log(`${row.block_time} ${getAddress(to)} gets ${amount} (${hash.slice(0, 10)}…)`);
}

// All mints so far that cannot be taken back, page after page: exact sums, because the values are bigint.
let minted = 0n;
let mints = 0;
try {
  for await (const { args } of gapless.rows("coins", "Transfer", { "arg.from": zeroAddress, finality: "finalized", limit: 1000 })) {
    minted += args.value;
    mints += 1;
  }
} catch (error) {
  if (error instanceof GaplessError) console.error(`${error.code}: ${error.message}`);
  throw error;
}
console.log(`${mints} mints of ${minted} units, complete: ${page.meta.complete}`);

// How much there was of each coin, by a multicall every ten blocks.
for await (const point of gapless.series("coins", "supply", { limit: 4 })) {
  const supply: bigint | null = point.values.totalSupply;
  console.log(`block ${point.block_number}: ${point.address} ${supply}`);
  break;
}

// Filters are typed by their argument: order for numbers, lists for addresses.
const large = await gapless.page("coins", "Transfer", { "arg.value.gte": 10n ** 21n, "arg.from.in": [zeroAddress], limit: 1 });
console.log(`a large mint: ${large.rows[0]?.args.value}`);

// Who has how much of the first coin, as of one finalized block; and what the richest has besides.
const [coin] = page.rows;
for await (const { address, balance } of gapless.all("/v1/tokens/{address}/holders", { address: coin!.address, limit: 2 })) {
  const { rows } = await gapless.list("/v1/addresses/{address}/balances", { address, include: ["token"] });
  const first: bigint = rows[0]!.balance;
  console.log(`${address} has ${balance} and ${rows.length - 1} more, first ${first}`);
  break;
}

// Day by day, with exact sums; and the transactions of a page, waiting until the block is indexed.
for await (const { date, events, sums } of gapless.daily("coins", "Transfer", { sum: ["value"], limit: 1 })) {
  const total: bigint = sums.value!;
  console.log(`${date}: ${events} transfers of ${total}`);
  break;
}
const block = await gapless.get("/v1/blocks/{number}", { number: "latest" });
const recent = await gapless.page("coins", "Transfer", {
  min_block: block.data.number,
  wait: 10,
  count: "estimated",
  include: ["tx"],
});
const sender: Address | undefined = recent.transactions[recent.rows[0]!.tx_hash]?.from ?? undefined;
console.log(`${recent.count} transfers (${recent.countIs}), the last in a transaction of ${sender}`);

// All events of the chain in one order. Each row has the types of its event.
for await (const row of gapless.feed({ contract: ["coins", "pair"], limit: 100 })) {
  if (row.contract !== "pair" || row.event !== "Swap") continue;
  const sold: bigint = row.args.amount0In;
  console.log(`a swap sells ${sold}`);
  break;
}

// What follows from events: the newest candles of a pair, and a program's positions, each row with its types.
const candles = await gapless.derivedPage("pair_hour", { order: "desc", limit: 2 });
const [candle] = candles.rows;
const volume: string | null = candle!.volume0; // may have decimals: a text of digits
const swaps: bigint | null = candle!.swaps;
console.log(`${candle!.pair} at ${candle!.hour}: ${swaps} swaps of ${volume}`);
let hours = 0;
for await (const { pair } of gapless.derived("pair_hour", { "col.pair": candle!.pair!, "col.hour.lte": candle!.hour!, limit: 5 })) {
  if (pair === candle!.pair) hours += 1;
}
console.log(`${hours} hours of that pair, complete: ${candles.meta.complete}`);

// A page of candles, and what changes of it: here only what is there at first.
for await (const message of gapless.streamDerived("pair_hour", { sort: "hour", order: "desc", limit: 3 })) {
  if (message.kind !== "derived") continue;
  const close: string | null = message.rows[0]!.close;
  console.log(`${message.rows.length} candles are followed (${message.reset}), the first closes at ${close}`);
  break;
}

// What is not indexed is an error before anything runs.
// @ts-expect-error there is no such derived table
void (() => gapless.derived("pair_hours"));
// @ts-expect-error a column without an index has no filter
void (() => gapless.derived("pair_hour", { "col.volume0.gt": 5n }));
// @ts-expect-error it has no such order
void (() => gapless.derived("pair_hour", { sort: "volume0" }));
// @ts-expect-error there is no such event
void (() => gapless.rows("coins", "Transfers"));
// @ts-expect-error an address is no string of just anything
void (() => gapless.rows("coins", "Transfer", { "arg.from": "vitalik.eth" }));
// @ts-expect-error a misspelt filter
void (() => gapless.rows("coins", "Transfer", { "arg.form": zeroAddress }));
// @ts-expect-error an address has no order
void (() => gapless.rows("coins", "Transfer", { "arg.from.gt": zeroAddress }));
// @ts-expect-error there is no such path
void (() => gapless.get("/v1/contract/{contract}", { contract: "coins" }));
// @ts-expect-error a name of the path is missing
void (() => gapless.get("/v1/contracts/{contract}", {}));
// @ts-expect-error addresses cannot be summed
void (() => gapless.daily("coins", "Transfer", { sum: ["from"] }));
