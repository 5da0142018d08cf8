// Compares rows with what viem makes of the same logs: node like_viem.js API NODE
import { Gapless } from "gapless-client";
import { type Abi, createPublicClient, decodeEventLog, http } from "viem";
import { schema } from "./gapless.js";

const [url, node] = process.argv.slice(2) as [string, string];
// Names come from a list here, so that there is nothing to check them against.
const gapless = new Gapless(schema, { url }) as any;
const chain = createPublicClient({ transport: http(node) });

/** The same text for the same value; viem writes addresses with their checksum. */
function text(value: unknown): string {
  return JSON.stringify(value, (_, part) => {
    if (typeof part === "bigint") return `${part}n`;
    if (typeof part === "string" && /^0x[0-9a-fA-F]*$/.test(part)) return part.toLowerCase();
    if (part === null || typeof part !== "object" || Array.isArray(part)) return part;
    return Object.fromEntries(Object.entries(part).sort(([a], [b]) => (a < b ? -1 : 1)));
  });
}

let [same, unnamed] = [0, 0];
for (const [contract, events] of Object.entries(schema.events)) {
  const abi = (await gapless.get("/v1/contracts/{contract}/abi", { contract })).data as Abi;
  for (const event of Object.keys(events)) {
    for (const row of (await gapless.page(contract, event, { limit: 5, finality: "finalized" })).rows) {
      const { logs } = await chain.getTransactionReceipt({ hash: row.tx_hash });
      const { data, topics } = logs.find((log) => log.logIndex === row.log_index)!;
      let decoded: { args?: unknown };
      try {
        decoded = decodeEventLog({ abi, data, topics });
      } catch {
        unnamed += 1; // an anonymous event: viem knows events by their topic
        continue;
      }
      if (Array.isArray(decoded.args)) unnamed += 1; // without names viem gives a list
      else if (text(decoded.args ?? {}) === text(row.args)) same += 1;
      else throw new Error(`${contract}.${event} ${row.id}\nviem: ${text(decoded.args)}\nours: ${text(row.args)}`);
    }
  }
}
console.log(`${same} the same, ${unnamed} not comparable`);
