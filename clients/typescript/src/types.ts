/** The types of rows, answers and queries, made from those of the OpenAPI document. */

export type Hex = `0x${string}`;
export type Address = `0x${string}`;

/** Where in a value there are integers as strings of digits; `*` is any member. */
export type Digits = true | null | readonly [Digits] | { readonly [member: string]: Digits };

/** What gapless-types makes. The types are of what is indexed and of the paths; the values tell where digits are. */
export interface Schema<Paths, Events, Series, Derived = {}> {
  readonly events: { readonly [C in keyof Events]: { readonly [E in keyof Events[C]]: Digits } };
  readonly series: { readonly [C in keyof Series]: { readonly [S in keyof Series[C]]: Digits } };
  /** Not there in what an earlier gapless-types made. */
  readonly derived?: { readonly [T in keyof Derived]: Digits };
  readonly paths: { readonly [P in keyof Paths]?: Digits };
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

/** As {@link Decoded}, but what the document calls optional stays so. */
export type Loosely<T> = T extends Hex
  ? T
  : T extends `${bigint}`
    ? bigint
    : T extends readonly (infer Item)[]
      ? Loosely<Item>[]
      : T extends object
        ? { [Member in keyof T]: Loosely<T[Member]> }
        : T;

/** A row of an event, or a point of a series. */
export type Row<Raw> = Decoded<Raw>;

type Arguments<Raw> = Raw extends { args?: infer Args } ? NonNullable<Args> : {};
type Numeric = number | `${number}` | `${bigint}`;
type Single<Raw> = [Raw] extends [Hex]
  ? "" | ".ne"
  : [Raw] extends [Numeric]
    ? "" | ".ne" | ".gt" | ".gte" | ".lt" | ".lte"
    : [Raw] extends [boolean]
      ? ""
      : [Raw] extends [string]
        ? "" | ".ne"
        : never;
type Value<Raw> = [Raw] extends [Hex] ? Hex : [Raw] extends [`${bigint}`] ? bigint | `${bigint}` : Raw;
type Lists<Raw> = [Raw] extends [Hex | Numeric] ? ".in" : never;
type FiltersOf<Name extends string, Raw> = { [K in `arg.${Name}${Single<Raw>}`]?: Value<Raw> | undefined } & {
  [K in `arg.${Name}${Lists<Raw>}`]?: readonly Value<Raw>[] | undefined;
};
type Together<Union> = (Union extends unknown ? (one: Union) => void : never) extends (all: infer All) => void
  ? All
  : never;

/** The filters on the arguments of an event, by the type of each. */
export type Filters<Raw> = Together<
  { [N in keyof Arguments<Raw> & string]: FiltersOf<N, NonNullable<Arguments<Raw>[N]>> }[keyof Arguments<Raw> & string]
>;

/** Arguments that can be summed. */
type Summable<Raw> = {
  [N in keyof Arguments<Raw> & string]: [NonNullable<Arguments<Raw>[N]>] extends [number | `${bigint}`]
    ? NonNullable<Arguments<Raw>[N]> extends Hex
      ? never
      : N
    : never;
}[keyof Arguments<Raw> & string];

type Get<Paths, P> = P extends keyof Paths ? (Paths[P] extends { get: infer Operation } ? Operation : never) : never;

type Answer<Operation> = Operation extends {
  responses: { 200: { content: { "application/json": infer Body } } };
}
  ? Body
  : never;

/** Paths that are read. */
export type Readable<Paths> = {
  [P in keyof Paths & string]: Get<Paths, P> extends never ? never : P;
}[keyof Paths & string];

/** What a path answers. */
export type Body<Paths, P> = Loosely<Answer<Get<Paths, P>>>;

/** A row of a path whose answer is a list. */
export type Item<Paths, P> =
  Answer<Get<Paths, P>> extends { data: (infer Raw)[] } ? Decoded<Raw> : never;

type QueryParameters<Operation> = Operation extends { parameters: { query?: infer Query } } ? NonNullable<Query> : {};
type PathParameters<Operation> = Operation extends { parameters: { path: infer Names } } ? Names : {};

/** The names in a path. */
export type Names<Paths, P> = {
  [N in keyof PathParameters<Get<Paths, P>>]: PathParameters<Get<Paths, P>>[N] extends infer One
    ? One extends string ? One | number : One
    : never;
};

/** All parameters of a path but those that decide how its answer is written. */
export type Query<Paths, P> = Omit<QueryParameters<Get<Paths, P>>, "format" | "fields" | "filters">;

type RowsPath = "/v1/contracts/{contract}/events/{event}";
type DailyPath = "/v1/contracts/{contract}/events/{event}/daily";
type StreamPath = "/v1/contracts/{contract}/events/{event}/stream";
export type SeriesPath = "/v1/contracts/{contract}/snapshots/{series}";

/** Ranges, filters and all else that a page of an event's rows is asked with. */
export type RowsQuery<Paths, Raw> = Omit<Query<Paths, RowsPath>, "after"> & Filters<Raw>;
export type DailyQuery<Paths, Raw> = Omit<Query<Paths, DailyPath>, "after" | "sum"> &
  Filters<Raw> & { sum?: readonly Summable<Raw>[] | undefined };
export type StreamQuery<Paths, Raw> = Omit<Query<Paths, StreamPath>, "after"> & Filters<Raw>;
export type ListQuery<Paths, P> = Omit<Query<Paths, P>, "after">;

/** What gapless-types says of a derived table: its rows, its key, its orders and its filters. */
export interface DerivedTable {
  row: object;
  key: string;
  sort: string;
  filters: string;
}

export type DerivedPath = "/v1/derived/{table}";
type Column<Raw, Name> = Name extends keyof Raw ? NonNullable<Raw[Name]> : never;
/** What a column is compared with; a number of Postgres may have decimals, and comes as a text of digits. */
type Compared<Raw> = [Raw] extends [Hex]
  ? Hex
  : [Raw] extends [`${bigint}`]
    ? bigint | `${bigint}`
    : [Raw] extends [`${number}`]
      ? bigint | number | `${number}`
      : Raw;
type ColumnFilter<Raw, Filter> = Filter extends `${infer Name}.in`
  ? readonly Compared<Column<Raw, Name>>[]
  : Filter extends `${infer Name}.${string}`
    ? Compared<Column<Raw, Name>>
    : Compared<Column<Raw, Filter>>;

/** A row of a derived table. */
export type DerivedRow<Table> = Table extends DerivedTable ? Decoded<Table["row"]> : never;

/** The conditions on columns of a derived table's key and indexes: `"col.pair"`, `"col.hour.gte"`. */
export type DerivedFilters<Table> = Table extends DerivedTable
  ? { [F in Table["filters"] as `col.${F}`]?: ColumnFilter<Table["row"], F> | undefined }
  : never;

/** How a page of a derived table is asked for. */
export type DerivedQuery<Paths, Table> = Omit<Query<Paths, DerivedPath>, "after" | "sort"> &
  DerivedFilters<Table> & { sort?: (Table extends DerivedTable ? Table["sort"] : never) | undefined };

/** Which page of a derived table is followed. */
export type DerivedStreamQuery<Paths, Table> = Omit<Query<Paths, "/v1/derived/{table}/stream">, "after" | "sort"> &
  DerivedFilters<Table> & { sort?: (Table extends DerivedTable ? Table["sort"] : never) | undefined };

/** A day of an event: how many there were, and the sums that were asked for. */
export interface Day<Raw> {
  date: string;
  events: number;
  sums: { [N in Summable<Raw>]?: bigint };
}

export interface Token {
  symbol: string | null;
  name: string | null;
  /** Null if unknown, which is neither 0 nor 18. */
  decimals: number | null;
}

/** What the manifest keeps of a transaction; null where it does not, or not yet. */
export interface Transaction {
  from: Address | null;
  to: Address | null;
  type: number | null;
  value: bigint | null;
  nonce: bigint | null;
  gas_limit: bigint | null;
  status: number | null;
  gas_used: bigint | null;
  effective_gas_price: bigint | null;
  created_contract: Address | null;
  complete: boolean;
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
  /** Balances and holders: true at the end of this block. */
  at_block?: number | null;
}

export interface Page<Item> {
  rows: Item[];
  /** Pass them as `after` and `before`; `last` stays good for what may follow later. */
  next: string | null;
  prev: string | null;
  last: string | null;
  /** All rows of the request, with `count`. */
  count: number | null;
  countIs: "exact" | "estimated" | null;
  meta: Meta;
  /** By address, with `include: ["token"]`. */
  tokens: Record<string, Token>;
  /** By hash, with `include: ["tx"]`; null where there is none (yet). */
  transactions: Record<string, Transaction | null>;
}

/** What a stream says. */
export type Message<Item> =
  | { kind: "row"; row: Item; cursor: string }
  /** Rows of blocks above this one are void; what took their place follows. */
  | { kind: "revert"; commonBlock: number; cursor: string }
  /** Of `streamBalances`: all balances as they are now, in place of those before; `all` is false where there are more. */
  | { kind: "balances"; rows: Item[]; all: boolean; cursor: string }
  /**
   * Of `streamDerived`: rows of the page that are new or changed, and the keys of those that it has no more. With `reset`
   * these are the whole page, and what was told before is void; `all` is false where the table has more than the page.
   */
  | { kind: "derived"; rows: Item[]; gone: Partial<Item>[]; reset: boolean; all: boolean; cursor: string }
  | (Progress & { kind: "status"; cursor: string });

/** How far a stream is: everything up to `through` has been said. */
export interface Progress {
  through: number | null;
  /** A block that the stream waits for, because it is wanted and not indexed yet. */
  waitingFor: number | null;
  /** When it grows, finalized rows were changed by a repair or a re-decoding. */
  rewrites: number;
  meta: Meta;
}

/** What a connection does. Every attempt and every break is told. */
export type Connection =
  | { state: "connecting"; attempt: number }
  | { state: "open" }
  /** It broke, or was refused for the moment: the next attempt is in `seconds`. */
  | { state: "waiting"; error: Error; attempt: number; seconds: number }
  | { state: "closed" };
