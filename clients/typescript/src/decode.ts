import type { Digits } from "./types.js";

/** A value with the integers that are strings of digits become bigint. Nothing is guessed: `digits` says where. */
export function decode(value: unknown, digits: Digits | undefined): unknown {
  if (digits === null || digits === undefined || value === null || value === undefined) return value;
  if (digits === true) return BigInt(value as string);
  if (Array.isArray(digits)) return (value as unknown[]).map((item) => decode(item, digits[0]));
  const members = digits as { readonly [member: string]: Digits };
  const of = (name: string) => (Object.hasOwn(members, name) ? members[name] : (members["*"] ?? null));
  return Object.fromEntries(Object.entries(value).map(([name, each]) => [name, decode(each, of(name))]));
}

/** A query string: bigint as digits, lists with commas, nothing for what is undefined. */
export function queryString(query: object): string {
  const given = Object.entries(query).filter(([, value]) => value !== undefined && value !== null);
  return new URLSearchParams(given.map(([name, value]) => [name, String(value)])).toString();
}

/** A path with its names filled in. */
export function filled(path: string, names: object): string {
  return path.replace(/\{(\w+)\}/g, (_, name: string) => {
    const value = (names as Record<string, unknown>)[name];
    if (value === undefined || value === "") throw new TypeError(`${path} needs ${name}`);
    return encodeURIComponent(String(value));
  });
}
