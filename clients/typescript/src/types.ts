/** The types of rows and queries, made from those of the OpenAPI document. */

export type Hex = `0x${string}`;
export type Address = `0x${string}`;

/** Where in a value there are integers as strings of digits. */
export type Digits = true | null | readonly [Digits] | { readonly [member: string]: Digits };

/** What gapless-types makes. The two types are of what is indexed; the values tell where digits are. */
export interface Schema<Events, Series> {
  readonly events: { readonly [C in keyof Events]: { readonly [E in keyof Events[C]]: Digits } };
  readonly series: { readonly [C in keyof Series]: { readonly [S in keyof Series[C]]: Digits } };
}

/** A value as it comes, with every string of digits become a bigint and every member there. */
export type Decoded<T> = T extends Hex
  ? T
  : T extends `${bigint}`
    ? bigint
    : T extends readonly (infer Item)[]
      ? Decoded<Item>[]
      : T extends object
        ? { [Member in keyof T]-?: Decoded<Exclude<T[Member], undefined>> }
        : T;

type Answer<Operation> = Operation extends {
  responses: { 200: { content: { "application/json": infer Body } } };
}
  ? Body
  : never;

/** A row of an event or of a series. */
export type Row<Operation> = Answer<Operation> extends { data: (infer Raw)[] } ? Decoded<Raw> : never;

type Parameters<Operation> = Operation extends { parameters: { query?: infer Query } } ? NonNullable<Query> : never;

/** Filters and ranges; what the client decides itself is left out. */
export type Query<Operation> = Omit<Parameters<Operation>, "fields" | "format" | "wait" | "after" | "before">;

export interface Token {
  symbol: string | null;
  name: string | null;
  /** Null if unknown, which is neither 0 nor 18. */
  decimals: number | null;
}

/** How fresh and how complete an answer is. */
export interface Meta {
  chain_id: number;
  indexed_block: number | null;
  head_block: number | null;
  finalized_block: number | null;
  lag_seconds: number | null;
  /** Whether every wanted block of the request is indexed. */
  complete?: boolean;
  /** Ranges of blocks that are not, both ends included. */
  missing?: [number, number][];
}

export interface Page<Item> {
  rows: Item[];
  /** Pass them as `after` and `before`; `last` stays good for what may follow later. */
  next: string | null;
  prev: string | null;
  last: string | null;
  meta: Meta;
  /** By address, with `include: ["token"]`. */
  tokens: Record<string, Token>;
}

/** What a stream says. */
export type Message<Item> =
  | { kind: "row"; row: Item; cursor: string }
  /** Rows of blocks above this one are void; what took their place follows. */
  | { kind: "revert"; commonBlock: number; cursor: string }
  /**
   * How far the stream is, and for which block it waits. When `rewrites` grows, finalized rows were changed by a repair
   * or a re-decoding.
   */
  | {
      kind: "status";
      through: number | null;
      waitingFor: number | null;
      rewrites: number;
      meta: Meta;
      cursor: string;
    };
