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
const DECIMAL = "^-?[0-9]+(\\.[0-9]+)?$";

const template = (...kinds) => {
  const types = kinds.map((kind) => ts.factory.createKeywordTypeNode(kind));
  const span = (type) => ts.factory.createTemplateLiteralTypeSpan(type, ts.factory.createTemplateTail(""));
  return (head) => ts.factory.createTemplateLiteralType(ts.factory.createTemplateHead(head), types.map(span));
};
const hex = template(ts.SyntaxKind.StringKeyword)("0x");
const decimal = template(ts.SyntaxKind.NumberKeyword)("");
const digits = template(ts.SyntaxKind.BigIntKeyword)("");
const bigint = ts.factory.createKeywordTypeNode(ts.SyntaxKind.BigIntKeyword);

function transform(schema, { path }) {
  if (schema.type !== "string" || !schema.pattern) return undefined;
  if (schema.pattern.startsWith("^0x")) return hex;
  if (schema.pattern === DECIMAL) return decimal;
  if (!/\[1-9\]\[0-9\]\*/.test(schema.pattern)) return undefined;
  return /\/parameters\//.test(path ?? "") ? ts.factory.createUnionTypeNode([bigint, digits]) : digits;
}

/** Where in a value digits are: true, {member: where}, [where] for arrays, {"*": where} for any member; or undefined. */
function where(schema, document) {
  if (schema.$ref) {
    return where(schema.$ref.slice(2).split("/").reduce((part, step) => part[step], document), document);
  }
  if (schema.allOf) {
    const parts = schema.allOf.map((each) => where(each, document)).filter((found) => found !== undefined);
    return parts.length ? Object.assign({}, ...parts) : undefined;
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
  const others = typeof schema.additionalProperties === "object" ? where(schema.additionalProperties, document) : undefined;
  if (others !== undefined) found.push(["*", others]);
  return found.length ? Object.fromEntries(found) : undefined;
}

/** The schemas of the rows of a kind (events or series), by contract and name. */
function listed(document, kind) {
  return Object.fromEntries(
    Object.entries(document["x-gapless"][kind]).map(([contract, names]) => [
      contract,
      Object.fromEntries(
        Object.entries(names).map(([name, component]) => [
          name,
          { component, digits: where({ $ref: `#/components/schemas/${component}` }, document) },
        ]),
      ),
    ]),
  );
}

function interfaceOf(name, found) {
  const contracts = Object.entries(found).map(([contract, parts]) => {
    const members = Object.entries(parts).map(
      ([part, { component }]) => `    ${JSON.stringify(part)}: components["schemas"][${JSON.stringify(component)}];`,
    );
    return `  ${JSON.stringify(contract)}: {\n${members.join("\n")}\n  };`;
  });
  return `export interface ${name} {\n${contracts.join("\n")}\n}\n`;
}

/** Where digits are in the answers of the paths that are read; of rows of events and series each has its own. */
function digitsOfPaths(document) {
  const found = {};
  for (const [path, item] of Object.entries(document.paths)) {
    const schema = item.get?.responses["200"]?.content["application/json"]?.schema;
    const digits = schema && where(schema, document);
    if (digits) found[path] = digits;
  }
  return found;
}

/** The derived tables by name: the schema of their rows, their parameters, and where digits are. */
function derivedTables(document) {
  const found = {};
  for (const [name, component] of Object.entries(document["x-gapless"].derived ?? {})) {
    const schema = document.components.schemas[component];
    const [key, sort, filters] = ["x-key", "x-sort", "x-filters"].map((about) => schema[about] ?? []);
    found[name] = { component, key, sort, filters, digits: where(schema, document) };
  }
  return found;
}

function derivedInterface(found) {
  const union = (names) => names.map((name) => JSON.stringify(name)).join(" | ") || "never";
  const tables = Object.entries(found).map(
    ([name, { component, key, sort, filters }]) =>
      `  ${JSON.stringify(name)}: {\n    row: components["schemas"][${JSON.stringify(component)}];\n` +
      `    key: ${union(key)};\n    sort: ${union(sort)};\n    filters: ${union(filters)};\n  };`,
  );
  return `export interface Derived {\n${tables.join("\n")}\n}\n`;
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
if (!document["x-gapless"]) {
  console.error(`${url} names no events: the server is older than this client. Use the client of its version.`);
  process.exit(1);
}
const events = listed(document, "events");
const series = listed(document, "series");
const derived = derivedTables(document);
const ofDerived = Object.fromEntries(Object.entries(derived).map(([name, { digits }]) => [name, digits ?? null]));
const types = astToString(await openapiTS(document, { transform, silent: true }));
await writeFile(
  file,
  `// Made by gapless-types from ${url.origin}/openapi.json. Make it again when what is indexed changes.\n` +
    `/* eslint-disable */\nimport type { Schema } from "gapless-client";\n\n${types}\n` +
    `${interfaceOf("Events", events)}\n${interfaceOf("Series", series)}\n${derivedInterface(derived)}\n` +
    `/** What the client needs to know at run time: where numbers are that do not fit a JSON number. */\n` +
    `export const schema: Schema<paths, Events, Series, Derived> = {\n` +
    `  events: ${JSON.stringify(digitsOf(events))},\n  series: ${JSON.stringify(digitsOf(series))},\n` +
    `  derived: ${JSON.stringify(ofDerived)},\n` +
    `  paths: ${JSON.stringify(digitsOfPaths(document))},\n};\n`,
);
const count = (found) => Object.values(found).reduce((sum, parts) => sum + Object.keys(parts).length, 0);
console.log(
  `${file}: ${count(events)} events and ${count(series)} series, ${Object.keys(derived).length} derived tables ` +
    `of ${url.origin}`,
);
