"""Labels, freshness, balances of the past, and what the readable views of event tables need

Revision ID: 0105
Revises: 0104
"""

from typing import Final

import sqlalchemy as sa
from alembic import op

revision = "0105"
down_revision = "0104"
branch_labels = None
depends_on = None

_ADDRESS: Final = "20 bytes; gapless.hex shows it, gapless.addr('0x…') writes it"

# -- names of addresses ---------------------------------------------------------------------------------------------

# In the order of trust: `gapless.label` takes the first.
_LABELS: Final = """
CREATE OR REPLACE VIEW gapless.labels AS
SELECT n.chain_id, o.address, o.name::text AS name, 'own'::text AS source
FROM gapless.own_labels o JOIN gapless.chains n ON o.chain_id IN (0, n.chain_id)
UNION ALL
SELECT t.chain_id, t.address, coalesce(t.name, t.symbol)::text, 'token'
FROM gapless.tokens t WHERE coalesce(t.name, t.symbol) IS NOT NULL
UNION ALL
SELECT d.chain_id, a.address, c.name::text, 'manifest'
FROM gapless.deployments d JOIN gapless.contracts c ON c.id = d.contract_id, unnest(d.addresses) AS a(address)
UNION ALL
SELECT h.chain_id, h.address, c.name::text, 'child'
FROM gapless.children h JOIN gapless.contracts c ON c.id = h.contract_id
"""

# Each part is answered by an index of its own, and is not asked where one before it has an answer.
_LABEL: Final = """
CREATE OR REPLACE FUNCTION gapless.label(of_chain bigint, of_address bytea) RETURNS text
LANGUAGE sql STABLE STRICT PARALLEL SAFE
RETURN coalesce(
    (SELECT o.name FROM gapless.own_labels o WHERE o.address = of_address AND o.chain_id IN (0, of_chain)
     ORDER BY o.chain_id DESC LIMIT 1),
    (SELECT coalesce(t.name, t.symbol) FROM gapless.tokens t
     WHERE t.chain_id = of_chain AND t.address = of_address),
    (SELECT min(c.name) FROM gapless.deployments d JOIN gapless.contracts c ON c.id = d.contract_id
     WHERE d.addresses @> ARRAY[of_address] AND d.chain_id = of_chain),
    (SELECT min(c.name) FROM gapless.deployments d JOIN gapless.contracts c ON c.id = d.contract_id
     WHERE d.chain_id = of_chain AND d.factories IS NOT NULL AND EXISTS (
        SELECT FROM gapless.children h
        WHERE h.chain_id = of_chain AND h.contract_id = d.contract_id AND h.address = of_address)))
"""

# -- how fresh tables are -------------------------------------------------------------------------------------------

_FRESHNESS: Final = """
CREATE OR REPLACE VIEW gapless.freshness AS
WITH tables AS (
    SELECT s.chain_id, s.event_id, min(s.start_block) AS start_block
    FROM gapless.sources s WHERE s.active GROUP BY s.chain_id, s.event_id
), covered AS (
    SELECT v.chain_id, v.schema_name, v.table_name, max(v.last_block) AS newest
    FROM gapless.coverage v GROUP BY 1, 2, 3
), lacking AS (
    SELECT v.chain_id, v.schema_name, v.table_name, min(v.first_block) AS first, sum(v.blocks)::bigint AS blocks
    FROM gapless.gaps v GROUP BY 1, 2, 3
)
SELECT n.chain_id, n.name AS chain, c.name AS contract, e.api_name AS event, c.schema_name, e.table_name,
       f.complete_to_block, m.complete_to_time, now() - m.complete_to_time AS age,
       CASE WHEN f.complete_to_block <= n.finalized_number THEN f.complete_to_block
            WHEN f.complete_to_block > n.finalized_number THEN n.finalized_number END AS final_to_block,
       v.newest AS newest_block, coalesce(g.blocks, 0) AS missing_blocks, n.head_number AS head_block, n.head_time
FROM tables t
JOIN gapless.chains n USING (chain_id)
JOIN gapless.events e ON e.id = t.event_id
JOIN gapless.contracts c ON c.id = e.contract_id
LEFT JOIN covered v ON v.chain_id = t.chain_id AND v.schema_name = c.schema_name AND v.table_name = e.table_name
LEFT JOIN lacking g ON g.chain_id = t.chain_id AND g.schema_name = c.schema_name AND g.table_name = e.table_name
CROSS JOIN LATERAL (
    SELECT CASE WHEN g.first IS NULL THEN v.newest WHEN g.first > t.start_block THEN g.first - 1 END
        AS complete_to_block
) f
CROSS JOIN LATERAL (
    SELECT CASE WHEN f.complete_to_block = n.tip_number THEN n.tip_time ELSE (
        SELECT b.time FROM gapless.blocks b WHERE b.chain_id = n.chain_id AND b.number <= f.complete_to_block
        ORDER BY b.number DESC LIMIT 1) END AS complete_to_time
) m
"""

# -- balances -------------------------------------------------------------------------------------------------------

_BALANCES_V: Final = """
CREATE OR REPLACE VIEW gapless.balances_v AS
SELECT l.chain_id, n.name::text AS chain, c.name::text AS contract, l.kind::text AS kind,
       gapless.hex(h.token) AS token, t.symbol::text AS symbol, h.token_id,
       gapless.hex(h.holder) AS holder, gapless.label(l.chain_id, h.holder) AS holder_label,
       h.amount, gapless.units(h.amount, t.decimals) AS amount_units,
       l.through_block AS block_number, NOT l.live AS stale, gapless.balance_problem(l.id, h.token)::text AS problem,
       h.token AS token_bytes, h.holder AS holder_bytes
FROM gapless.holdings h
JOIN gapless.ledgers l ON l.id = h.ledger_id AND l.served
JOIN gapless.contracts c ON c.id = l.contract_id
LEFT JOIN gapless.chains n ON n.chain_id = l.chain_id
LEFT JOIN gapless.tokens t ON t.chain_id = l.chain_id AND t.address = h.token
"""

# The ledger that counts a token. It is told by name which manifests keep no balances of it.
_LEDGER: Final = """
CREATE OR REPLACE FUNCTION gapless.ledger_of(of_chain text, of_token bytea) RETURNS integer
LANGUAGE plpgsql STABLE STRICT PARALLEL SAFE AS $$
DECLARE
    number CONSTANT bigint := gapless.chain_id(of_chain);
    found integer;
BEGIN
    SELECT min(l.id) INTO found FROM gapless.ledgers l
    WHERE l.served AND l.chain_id = number AND CASE l.place ->> 'kind'
        WHEN 'addresses' THEN l.place -> 'addresses' ? gapless.hex(of_token)
        WHEN 'factory' THEN EXISTS (
            SELECT FROM gapless.children h WHERE h.chain_id = number AND h.contract_id = l.contract_id
            AND h.address = of_token)
        ELSE true END;
    IF found IS NULL THEN
        RAISE EXCEPTION 'no balances are kept of the token % on %', gapless.hex(of_token), of_chain
            USING ERRCODE = 'invalid_parameter_value',
                  HINT = 'The contract of the token must stand in [balances] of the manifest.';
    END IF;
    RETURN found;
END $$
"""

# What a token's transfers after a block gave and took: the opposite of the way that a ledger counts. The plan is made
# for the very token: then the view reads its tables alone.
_MOVED: Final = """
    SELECT t.to_address AS holder, t.amount AS delta, t.block_time FROM gapless.transfers t
    WHERE t.chain_id = l.chain_id AND t.token = of_token AND t.token_id = of_id AND t.from_address <> t.to_address
      AND t.block_number > {after} AND t.block_number <= l.through_block {received}
    UNION ALL
    SELECT t.from_address, -t.amount, t.block_time FROM gapless.transfers t
    WHERE t.chain_id = l.chain_id AND t.token = of_token AND t.token_id = of_id AND t.from_address <> t.to_address
      AND t.block_number > {after} AND t.block_number <= l.through_block {given}
"""
_OF_ONE: Final = {"received": "AND t.to_address = of_holder", "given": "AND t.from_address = of_holder"}
_OF_ALL: Final = {"received": "AND t.to_address <> zero", "given": "AND t.from_address <> zero"}
_SETTINGS: Final = "LANGUAGE plpgsql STABLE PARALLEL SAFE SET plan_cache_mode = force_custom_plan"

_BALANCE_AT: Final = f"""
CREATE OR REPLACE FUNCTION gapless.balance_at(of_chain text, of_token bytea, of_holder bytea, at_block bigint,
                                   of_id numeric DEFAULT 0) RETURNS numeric
{_SETTINGS} STRICT AS $$
DECLARE
    l gapless.ledgers;
    result numeric;
BEGIN
    SELECT * INTO l FROM gapless.ledgers WHERE id = gapless.ledger_of(of_chain, of_token);
    IF at_block < l.start_block OR at_block > l.through_block THEN RETURN NULL; END IF;
    IF of_holder = decode(repeat('00', 20), 'hex') THEN RETURN 0; END IF;
    SELECT coalesce((SELECT h.amount FROM gapless.holdings h WHERE h.ledger_id = l.id AND h.token = of_token
                     AND h.token_id = of_id AND h.holder = of_holder), 0)
         - coalesce((SELECT sum(m.delta) FROM ({_MOVED.format(after="at_block", **_OF_ONE)}) m), 0) INTO result;
    RETURN result;
END $$
"""
_BALANCE_AT_TIME: Final = """
CREATE OR REPLACE FUNCTION gapless.balance_at(of_chain text, of_token bytea, of_holder bytea, moment timestamptz,
                                   of_id numeric DEFAULT 0) RETURNS numeric
LANGUAGE sql STABLE STRICT PARALLEL SAFE
RETURN gapless.balance_at(of_chain, of_token, of_holder, gapless.block_at(of_chain, moment), of_id)
"""

# Backwards from what there is: a day's end is what there is now less all that came later.
_BALANCE_BY_DAY: Final = f"""
CREATE OR REPLACE FUNCTION gapless.balance_by_day(of_chain text, of_token bytea, of_holder bytea, first_day date,
                                                  last_day date, of_id numeric DEFAULT 0)
RETURNS TABLE (day date, amount numeric)
{_SETTINGS} STRICT ROWS 100 AS $$
DECLARE
    l gapless.ledgers;
    before bigint;
    earliest date;
    latest date;
    now_has numeric;
BEGIN
    SELECT * INTO l FROM gapless.ledgers WHERE id = gapless.ledger_of(of_chain, of_token);
    SELECT gapless.day(b.time) INTO earliest FROM gapless.blocks b
    WHERE b.chain_id = l.chain_id AND b.number >= l.start_block ORDER BY b.number LIMIT 1;
    SELECT gapless.day(b.time) INTO latest FROM gapless.blocks b
    WHERE b.chain_id = l.chain_id AND b.number <= l.through_block ORDER BY b.number DESC LIMIT 1;
    before := coalesce(gapless.block_at(of_chain, (first_day::timestamp AT TIME ZONE 'UTC')
                                                  - interval '1 microsecond'), -1);
    SELECT coalesce((SELECT h.amount FROM gapless.holdings h WHERE h.ledger_id = l.id AND h.token = of_token
                     AND h.token_id = of_id AND h.holder = of_holder), 0) INTO now_has;
    RETURN QUERY
    WITH moved AS (
        SELECT gapless.day(m.block_time) AS on_day, sum(m.delta) AS delta
        FROM ({_MOVED.format(after="before", **_OF_ONE)}) m GROUP BY 1
    ), days AS (
        SELECT s.on_day::date AS on_day
        FROM generate_series(greatest(first_day, earliest)::timestamp, latest::timestamp, interval '1 day') s(on_day)
    ), ends AS (
        SELECT d.on_day, now_has - coalesce(sum(moved.delta) OVER (
            ORDER BY d.on_day DESC ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING), 0) AS has
        FROM days d LEFT JOIN moved USING (on_day)
    )
    SELECT e.on_day, e.has FROM ends e WHERE e.on_day <= last_day ORDER BY e.on_day;
END $$
"""

# The largest holders that have moved nothing since come from an index, in order; the others are counted back.
_HOLDERS_AT: Final = f"""
CREATE OR REPLACE FUNCTION gapless.holders_at(of_chain text, of_token bytea, at_block bigint, most integer DEFAULT 10,
                                   of_id numeric DEFAULT 0) RETURNS TABLE (place bigint, holder bytea, amount numeric)
{_SETTINGS} STRICT ROWS 10 AS $$
DECLARE
    l gapless.ledgers;
    zero CONSTANT bytea := decode(repeat('00', 20), 'hex');
BEGIN
    SELECT * INTO l FROM gapless.ledgers WHERE id = gapless.ledger_of(of_chain, of_token);
    IF at_block < l.start_block OR at_block > l.through_block THEN RETURN; END IF;
    RETURN QUERY
    WITH moved AS MATERIALIZED (
        SELECT m.holder, sum(m.delta) AS delta FROM ({_MOVED.format(after="at_block", **_OF_ALL)}) m GROUP BY 1
    ), had AS (
        SELECT m.holder, coalesce(h.amount, 0) - m.delta AS amount
        FROM moved m LEFT JOIN gapless.holdings h
          ON h.ledger_id = l.id AND h.token = of_token AND h.token_id = of_id AND h.holder = m.holder
        UNION ALL
        (SELECT h.holder, h.amount FROM gapless.holdings h
         WHERE h.ledger_id = l.id AND h.token = of_token AND h.token_id = of_id
           AND NOT EXISTS (SELECT FROM moved m WHERE m.holder = h.holder)
         ORDER BY h.amount DESC, h.holder DESC LIMIT most)
    )
    SELECT row_number() OVER (ORDER BY had.amount DESC, had.holder DESC), had.holder, had.amount
    FROM had WHERE had.amount > 0 ORDER BY had.amount DESC, had.holder DESC LIMIT most;
END $$
"""

_HEXES: Final = """
CREATE OR REPLACE FUNCTION gapless.hexes(bytes bytea[]) RETURNS text[]
LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE
RETURN ARRAY(SELECT gapless.hex(b.value) FROM unnest(bytes) WITH ORDINALITY AS b(value, place) ORDER BY b.place)
"""

_FUNCTION_COMMENTS: Final = {
    "label(bigint, bytea)": "The name of an address (20 bytes) on a chain (EIP-155 id): the first of gapless.labels by "
    "trust: own, token, manifest, child; null: none",
    "hexes(bytea[])": "A list of bytes as texts, each as gapless.hex shows it",
    "ledger_of(text, bytea)": "The ledger (gapless.ledgers.id) that counts a token (20 bytes) on a chain (name or id); "
    "an error where no balances are kept of it",
    "balance_at(text, bytea, bytea, bigint, numeric)": "What a holder had of a token, both 20 bytes, at the end of a "
    "block, in the smallest unit: chain (name or id), token, holder, block, token_id (0 for ERC-20). Null: the block "
    "is not counted",
    "balance_at(text, bytea, bytea, timestamptz, numeric)": "What a holder had of a token, both 20 bytes, at a time; "
    "else as the function for a block",
    "balance_by_day(text, bytea, bytea, date, date, numeric)": "What a holder had of a token, both 20 bytes, at the "
    "end of each day (UTC) from the first to the last, in the smallest unit; days that are not counted have no row",
    "holders_at(text, bytea, bigint, integer, numeric)": "The largest holders of a token (20 bytes) at the end of a "
    "block: chain (name or id), token, block, how many, token_id (0 for ERC-20). No rows: the block is not counted",
}

_VIEW_COMMENTS: Final = {
    "labels": (
        "Names of addresses, a row for each source that has one; gapless.label(chain_id, address) is the first of them",
        {
            "chain_id": "EIP-155 chain id",
            "address": _ADDRESS,
            "name": "the name. A token's is what it calls itself: anybody may call a token so",
            "source": "in the order of trust: own (gapless.own_labels), token (gapless.tokens), manifest (the "
            "contract's name), child (the name of the contract that a factory made it for)",
        },
    ),
    "freshness": (
        "How far each event table is complete, and how old that is, by chain: a row for each that the manifest wants",
        {
            "chain_id": "EIP-155 chain id",
            "chain": "name of the chain in the manifest",
            "contract": "name of the contract in the manifest",
            "event": "name of the event in the API: the ABI's, or Name~selector if overloaded",
            "schema_name": "Postgres schema of the event's table",
            "table_name": "the event's table in it",
            "complete_to_block": "all rows from the first wanted block to this one are there; null: none is",
            "complete_to_time": "time of that block, or of the last known one before it",
            "age": "how long ago that was; it grows while nothing comes",
            "final_to_block": "complete, and no reorganisation can change it any more: for incremental models",
            "newest_block": "newest block whose rows are there; there may be gaps before it",
            "missing_blocks": "how many blocks are wanted and lacking up to the newest indexed one",
            "head_block": "the chain's newest block, as nodes last said",
            "head_time": "time of that block",
        },
    ),
    "balances_v": (
        "gapless.balances for people: addresses as text with their names, amounts in units of the token",
        {
            "chain_id": "EIP-155 chain id",
            "chain": "name of the chain in the manifest",
            "contract": "name in the manifest of the contract whose transfers were counted",
            "kind": "erc20, erc721 or erc1155",
            "token": "the contract of the token as text; token_bytes is searched by an index",
            "symbol": "what the token calls itself; null: unknown",
            "token_id": "0 for ERC-20",
            "holder": "who has it, as text; holder_bytes is searched by an index",
            "holder_label": "name of the holder (gapless.labels); null: none",
            "amount": "in the smallest unit of the token; 1 for ERC-721; never 0",
            "amount_units": "in units of the token, exact; null: its decimals are unknown",
            "block_number": "true at the end of this block",
            "stale": "true: counted no further than block_number (gapless.ledgers says why)",
            "problem": "why the balances of the token do not follow from its transfers; null: they do, as far as known",
            "token_bytes": f"the contract of the token, {_ADDRESS}",
            "holder_bytes": f"who has it, {_ADDRESS}",
        },
    ),
}


_STATEMENTS: Final = (
    _HEXES, _LABELS, _LABEL, _FRESHNESS, _BALANCES_V,
    _LEDGER, _BALANCE_AT, _BALANCE_AT_TIME, _BALANCE_BY_DAY, _HOLDERS_AT,
)  # fmt: skip


def _run(statement: str) -> None:
    op.get_bind().exec_driver_sql(statement.replace("%", "%%"))


def _say(of: str, comment: str) -> None:
    _run(f"COMMENT ON {of} IS '" + comment.replace("'", "''") + "'")


def upgrade() -> None:
    op.create_table(
        "own_labels",
        sa.Column("chain_id", sa.BigInteger(), nullable=False, comment="EIP-155 chain id; 0: on every chain"),
        sa.Column("address", sa.LargeBinary(), nullable=False, comment=_ADDRESS),
        sa.Column("name", sa.String(), nullable=False, comment="what the address is called"),
        sa.PrimaryKeyConstraint("address", "chain_id"),
        sa.CheckConstraint("length(address) = 20", name="own_labels_address"),
        sa.CheckConstraint("name <> ''", name="own_labels_name"),
        schema="gapless",
        comment="Names that you give to addresses: Gapless reads them in gapless.labels, and never changes them",
    )
    op.create_index("deployments_addresses", "deployments", ["addresses"], schema="gapless", postgresql_using="gin")
    view_name = sa.Column("view_name", sa.String(), comment="the readable view beside its table; null: not made yet")
    view_version = sa.Column("view_version", sa.Integer(), nullable=False, server_default="0", comment="its form")
    op.add_column("events", view_name, schema="gapless")
    op.add_column("events", view_version, schema="gapless")
    for statement in _STATEMENTS:
        _run(statement)
    for signature, comment in _FUNCTION_COMMENTS.items():
        _say(f"FUNCTION gapless.{signature}", comment)
    for view, (comment, columns) in _VIEW_COMMENTS.items():
        _say(f"VIEW gapless.{view}", comment)
        for name, text in columns.items():
            _say(f"COLUMN gapless.{view}.{name}", text)


def downgrade() -> None:
    for signature in reversed(_FUNCTION_COMMENTS):
        if not signature.startswith(("label(", "hexes(")):
            _run(f"DROP FUNCTION gapless.{signature}")
    _run("DROP VIEW gapless.balances_v, gapless.freshness, gapless.labels")
    _run("DROP FUNCTION gapless.label(bigint, bytea), gapless.hexes(bytea[]) CASCADE")
    op.drop_column("events", "view_version", schema="gapless")
    op.drop_column("events", "view_name", schema="gapless")
    op.drop_index("deployments_addresses", "deployments", schema="gapless")
    op.drop_table("own_labels", schema="gapless")
