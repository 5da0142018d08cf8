// Transfers as they happen, in a web page: npm run page, then serve page.html and build/ from anywhere.
import { Gapless, type Hearing } from "gapless-client";
import { formatEther } from "viem";
import { schema } from "./gapless.js";

const url = new URLSearchParams(location.search).get("api") ?? "http://127.0.0.1:8000";
const gapless = new Gapless(schema, { url });
const list = document.querySelector("ol")!;
const state = document.querySelector("p")!;

const newest = await gapless.page("coins", "Transfer", { limit: 5 });
state.textContent = `indexed up to block ${newest.meta.indexed_block}`;

// From behind the oldest of these: nothing is missed, and nothing comes twice. A cursor above the finalized block knows
// its block's hash, so that a reorganisation in between is told.
const hearing: Hearing = {
  after: newest.last ?? undefined,
  onProgress: ({ through }) => (state.textContent = `indexed up to block ${through}`),
  onState: (connection) => (document.body.dataset["connection"] = connection.state),
};
for await (const message of gapless.stream("coins", "Transfer", {}, hearing)) {
  if (message.kind === "row") {
    const { id, block_number, args } = message.row;
    const item = document.createElement("li");
    item.dataset["block"] = String(block_number);
    item.textContent = `${id}: ${formatEther(args.value)} to ${args.to}`;
    list.prepend(item);
  } else if (message.kind === "revert") {
    for (const item of list.querySelectorAll("li")) if (Number(item.dataset["block"]) > message.commonBlock) item.remove();
  }
}
