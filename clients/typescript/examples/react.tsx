// The same with React: npm run react, then serve react.html and build/ from anywhere.
import { Gapless } from "gapless-client";
import { useBalance, useLiveRows, useRows } from "gapless-client/react";
import { useState } from "react";
import { createRoot } from "react-dom/client";
import { type Address, formatEther, zeroAddress } from "viem";
import { schema } from "./gapless.js";

const url = new URLSearchParams(location.search).get("api") ?? "http://127.0.0.1:8000";
const gapless = new Gapless(schema, { url });

function Transfers() {
  const { rows, through, connection, error } = useLiveRows(gapless, "coins", "Transfer", {}, { limit: 20 });
  return (
    <section id="live" data-connection={connection.state}>
      <p>{error ? error.message : through === null ? "connecting …" : `synced to ${through}`}</p>
      <ol>
        {rows.map(({ id, address, args }) => (
          <li key={id}>
            {id}: {formatEther(args.value)} to {args.to} <Has token={address} holder={args.to} />
          </li>
        ))}
      </ol>
    </section>
  );
}

function Has({ token, holder }: { token: Address; holder: Address }) {
  const { balance, error } = useBalance(gapless, token, holder, { every: 2 });
  return <small>{error ? error.message : balance === undefined ? "…" : `has ${balance}`}</small>;
}

function Mints() {
  const [limit, setLimit] = useState(3);
  const { rows, page, loading, error, reload } = useRows(gapless, "coins", "Transfer", {
    "arg.from": zeroAddress,
    "arg.value.gt": 0n,
    count: "exact",
    limit,
  });
  return (
    <section id="mints">
      <p>{error ? error.message : loading ? "…" : `${rows.length} of ${page?.count} mints`}</p>
      <button id="more" onClick={() => setLimit(limit + 2)}>
        more
      </button>
      <button id="again" onClick={reload}>
        again
      </button>
    </section>
  );
}

createRoot(document.querySelector("main")!).render(
  <>
    <Mints />
    <Transfers />
  </>,
);
