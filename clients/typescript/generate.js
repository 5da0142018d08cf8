#!/usr/bin/env node
// Makes the types of what a Gapless API serves: gapless-types http://127.0.0.1:8000 src/gapless.ts
//
// openapi-typescript does the work; two things it cannot know are told to it. Strings of hex become `0x${string}`, which
// is what viem calls Address, Hash and Hex. Integers that do not fit a JSON number are strings of digits on the wire,
// `${bigint}`, and the file lists where they are, so that the client can make them bigint.
import { writeFile } from "node:fs/promises";
import openapiTS, { astToString } from "openapi-typescript";
import ts from "typescript";

const DIGITS = "^(0|-?[1-9][0-9]*)$";
const ROWS = /^\/v1\/contracts\/([^/{}]+)\/(events|snapshots)\/([^/{}]+)$/;
//: Paths of which the client knows the types anyway: those of the rows.
const KNOWN = /^\/v1\/contracts\/[^/{}]+\/events\/[^/{}]+\/(\{id\}|stream)$/;

const template = (...kinds) => {
  const types = kinds.map((kind) => ts.factory.createKeywordTypeNode(kind));
  const span = (type) => ts.factory.createTemplateLiteralTypeSpan(type, ts.factory.createTemplateTail(""));
  return (head) => ts.factory.createTemplateLiteralType(ts.factory.createTemplateHead(head), types.map(span));
};
const hex = template(ts.SyntaxKind.StringKeyword)("0x");
const digits = template(ts.SyntaxKind.BigIntKeyword)("");
const bigint = ts.factory.createKeywordTypeNode(ts.SyntaxKind.BigIntKeyword);

function transform(schema, { path }) {
  if (schema.type !== "string" || !schema.pattern) return undefined;
  if (schema.pattern.startsWith("^0x")) return hex;
  if (!/\[1-9\]\[0-9\]\*/.test(schema.pattern)) return undefined;
  return /\/parameters\//.test(path ?? "") ? ts.factory.createUnionTypeNode([bigint, digits]) : digits;
}

/** Where in a value of this schema digits are: true, {member: where}, [where] for arrays; undefined if nowhere. */
function where(schema, document) {
  if (schema.$ref) {
    return where(schema.$ref.slice(2).split("/").reduce((part, step) => part[step], document), document);
  }
  if (schema.anyOf) return schema.anyOf.map((each) => where(each, document)).find((found) => found !== undefined);
  if (schema.type === "string") return schema.pattern === DIGITS ? true : undefined;
  if (schema.type === "array") {
    const found = where(schema.items ?? {}, document);
    return found === undefined ? undefined : [found];
  }
  const found = Object.entries(schema.properties ?? {})
    .map(([name, each]) => [name, where(each, document)])
    .filter(([, each]) => each !== undefined);
  return found.length ? Object.fromEntries(found) : undefined;
}

function listed(document, kind) {
  const found = {};
  for (const [path, item] of Object.entries(document.paths)) {
    const [, contract, which, name] = ROWS.exec(path) ?? [];
    if (which !== kind) continue;
    const row = item.get.responses["200"].content["application/json"].schema.properties.data.items;
    (found[contract] ??= {})[name] = { path, digits: where(row, document) };
  }
  return found;
}

function interfaceOf(name, found) {
  const contracts = Object.entries(found).map(([contract, parts]) => {
    const members = Object.entries(parts).map(
      ([part, { path }]) => `    ${JSON.stringify(part)}: paths[${JSON.stringify(path)}]["get"];`,
    );
    return `  ${JSON.stringify(contract)}: {\n${members.join("\n")}\n  };`;
  });
  return `export interface ${name} {\n${contracts.join("\n")}\n}\n`;
}

const digitsOf = (found) =>
  Object.fromEntries(
    Object.entries(found).map(([contract, parts]) => [
      contract,
      Object.fromEntries(Object.entries(parts).map(([part, { digits }]) => [part, digits ?? null])),
    ]),
  );

const [server, file, ...rest] = process.argv.slice(2);
if (!server || !file || rest.length) {
  console.error("usage: gapless-types URL FILE\n  such as: gapless-types http://127.0.0.1:8000 src/gapless.ts");
  process.exit(2);
}
const url = new URL("openapi.json", server.endsWith("/") ? server : `${server}/`);
const answer = await fetch(url).catch((error) => {
  console.error(`${url} cannot be reached: ${error.cause?.message ?? error.message}`);
  process.exit(1);
});
if (!answer.ok) {
  console.error(`${url} answers ${answer.status}; is it a Gapless API?`);
  process.exit(1);
}
const document = await answer.json();
const events = listed(document, "events");
const series = listed(document, "snapshots");
document.paths = Object.fromEntries(Object.entries(document.paths).filter(([path]) => !KNOWN.test(path)));
const types = astToString(await openapiTS(document, { transform, silent: true }));
await writeFile(
  file,
  `// Made by gapless-types from ${url.origin}/openapi.json. Make it again when what is indexed changes.\n` +
    `/* eslint-disable */\nimport type { Schema } from "gapless-client";\n\n${types}\n` +
    `${interfaceOf("Events", events)}\n${interfaceOf("Series", series)}\n` +
    `/** What the client needs to know at run time: where numbers are that do not fit a JSON number. */\n` +
    `export const schema: Schema<Events, Series> = {\n` +
    `  events: ${JSON.stringify(digitsOf(events))},\n  series: ${JSON.stringify(digitsOf(series))},\n};\n`,
);
const count = (found) => Object.values(found).reduce((sum, parts) => sum + Object.keys(parts).length, 0);
console.log(`${file}: ${count(events)} events and ${count(series)} series of ${url.origin}`);
