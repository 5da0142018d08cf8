"""Functions and views for analysts, and a comment on everything in the schema gapless

Revision ID: 0103
Revises: 0102
"""

from typing import Final

from alembic import op

revision = "0103"
down_revision = "0102"
branch_labels = None
depends_on = None


def _round() -> str:
    """One round of keccak-f[1600] on the state ``s``, in which lane (x, y) is ``s[x + 5y + 1]``.

    Whole steps are single expressions: plpgsql evaluates those an order of magnitude faster than as many statements.
    Postgres' operators on bits all have one precedence, so each is in parentheses.
    """
    turns = (0, 1, 62, 28, 27, 36, 44, 6, 55, 20, 3, 10, 43, 25, 39, 41, 45, 15, 21, 8, 18, 2, 61, 56, 14)

    def turned(lane: str, bits: int) -> str:
        return f"((({lane}) << {bits}) | ((({lane}) >> {64 - bits}) & {(1 << bits) - 1}))" if bits else f"({lane})"

    columns = ", ".join(" # ".join(f"s[{x + 5 * y + 1}]" for y in range(5)) for x in range(5))
    parity = ", ".join(f"c[{(x + 4) % 5 + 1}] # {turned(f'c[{(x + 1) % 5 + 1}]', 1)}" for x in range(5))
    moved = [""] * 25
    for x in range(5):
        for y in range(5):
            moved[y + 5 * ((2 * x + 3 * y) % 5)] = turned(f"s[{x + 5 * y + 1}] # d[{x + 1}]", turns[x + 5 * y])
    mixed = ", ".join(
        f"b[{x + 5 * y + 1}] # (~b[{(x + 1) % 5 + 5 * y + 1}] & b[{(x + 2) % 5 + 5 * y + 1}])"
        for y in range(5)
        for x in range(5)
    )
    return f"""c := ARRAY[{columns}];
            d := ARRAY[{parity}];
            b := ARRAY[{", ".join(moved)}];
            s := ARRAY[{mixed}];"""


def _absorbed() -> str:
    """The state with the 17 lanes of the block that begins at byte ``start`` of ``padded`` added to it."""

    def lane(at: int) -> str:
        return " | ".join(f"(get_byte(padded, start + {8 * at + i})::bigint << {8 * i})" for i in range(8))

    return ", ".join(f"s[{at + 1}] # ({lane(at)})" if at < 17 else f"s[{at + 1}]" for at in range(25))


_ROUNDS: Final = (
    0x0000000000000001, 0x0000000000008082, 0x800000000000808A, 0x8000000080008000, 0x000000000000808B,
    0x0000000080000001, 0x8000000080008081, 0x8000000000008009, 0x000000000000008A, 0x0000000000000088,
    0x0000000080008009, 0x000000008000000A, 0x000000008000808B, 0x800000000000008B, 0x8000000000008089,
    0x8000000000008003, 0x8000000000008002, 0x8000000000000080, 0x000000000000800A, 0x800000008000000A,
    0x8000000080008081, 0x8000000000008080, 0x0000000080000001, 0x8000000080008008,
)  # fmt: skip

_KECCAK: Final = f"""
CREATE OR REPLACE FUNCTION gapless.keccak256(value bytea) RETURNS bytea
LANGUAGE plpgsql IMMUTABLE STRICT PARALLEL SAFE AS $$
DECLARE
    added CONSTANT bigint[] := '{{{",".join(str(r - (1 << 64) if r >> 63 else r) for r in _ROUNDS)}}}';
    lacking CONSTANT integer := 136 - length(value) % 136;
    padded bytea := value || decode(repeat('00', lacking), 'hex');
    result bytea := decode(repeat('00', 32), 'hex');
    s bigint[] := array_fill(0::bigint, ARRAY[25]);
    b bigint[];
    c bigint[];
    d bigint[];
BEGIN
    padded := set_byte(padded, length(value), 1);
    padded := set_byte(padded, length(padded) - 1, get_byte(padded, length(padded) - 1) | 128);
    FOR start IN 0 .. length(padded) - 1 BY 136 LOOP
        s := ARRAY[{_absorbed()}];
        FOR i IN 1 .. 24 LOOP
            {_round()}
            s[1] := s[1] # added[i];
        END LOOP;
    END LOOP;
    FOR i IN 0 .. 31 LOOP
        result := set_byte(result, i, (s[1 + i / 8] >> (i % 8 * 8) & 255)::integer);
    END LOOP;
    RETURN result;
END $$
"""

_CHECKSUM: Final = """
CREATE OR REPLACE FUNCTION gapless.checksum(address bytea) RETURNS text
LANGUAGE plpgsql IMMUTABLE STRICT PARALLEL SAFE AS $$
DECLARE
    digits CONSTANT text := encode(address, 'hex');
    hash CONSTANT text := encode(gapless.keccak256(digits::bytea), 'hex');
    result text := '0x';
BEGIN
    IF length(address) <> 20 THEN
        RAISE EXCEPTION 'gapless.checksum: % bytes are no address, which has 20; gapless.hex writes any bytes',
            length(address) USING ERRCODE = 'invalid_parameter_value';
    END IF;
    FOR i IN 1 .. 40 LOOP
        result := result || CASE WHEN strpos('89abcdef', substr(hash, i, 1)) > 0
                                 THEN upper(substr(digits, i, 1)) ELSE substr(digits, i, 1) END;
    END LOOP;
    RETURN result;
END $$
"""

_ADDR: Final = """
CREATE OR REPLACE FUNCTION gapless.addr(address text) RETURNS bytea
LANGUAGE plpgsql IMMUTABLE STRICT PARALLEL SAFE AS $$
DECLARE
    digits CONSTANT text := substr(address, 3);
    result bytea;
BEGIN
    IF address !~ '^0x[0-9a-fA-F]{40}$' THEN
        RAISE EXCEPTION 'gapless.addr: % is no address: write 0x and 40 hexadecimal digits',
            quote_literal(left(address, 80)) USING ERRCODE = 'invalid_text_representation';
    END IF;
    result := decode(digits, 'hex');
    IF digits <> lower(digits) AND digits <> upper(digits) AND gapless.checksum(result) <> address THEN
        RAISE EXCEPTION 'gapless.addr: the checksum of % is wrong: a character of it was changed',
            quote_literal(address) USING ERRCODE = 'invalid_text_representation',
                  HINT = 'Copy the address again. One that is written in lower case only has no checksum.';
    END IF;
    RETURN result;
END $$
"""

_PLAIN: Final = (
    """CREATE OR REPLACE FUNCTION gapless.hex(value bytea) RETURNS text
    LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE RETURN '0x' || encode(value, 'hex')""",
    """CREATE OR REPLACE FUNCTION gapless.units(amount numeric, decimals integer) RETURNS numeric
    LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE RETURN amount * ('1e' || (-decimals)::text)::numeric""",
    """CREATE OR REPLACE FUNCTION gapless.hour(moment timestamptz) RETURNS timestamptz
    LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE
    RETURN date_trunc('hour', moment AT TIME ZONE 'UTC') AT TIME ZONE 'UTC'""",
    """CREATE OR REPLACE FUNCTION gapless.day(moment timestamptz) RETURNS date
    LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE RETURN (moment AT TIME ZONE 'UTC')::date""",
)

_CHAIN_ID: Final = """
CREATE OR REPLACE FUNCTION gapless.chain_id(chain text) RETURNS bigint
LANGUAGE plpgsql STABLE STRICT PARALLEL SAFE AS $$
DECLARE
    found bigint;
    others text;
BEGIN
    SELECT n.chain_id INTO found FROM gapless.chains n
    WHERE n.name = chain OR n.chain_id::text = chain ORDER BY n.name = chain DESC LIMIT 1;
    IF found IS NULL THEN
        SELECT string_agg(n.name || ' (' || n.chain_id || ')', ', ' ORDER BY n.chain_id) INTO others
        FROM gapless.chains n;
        RAISE EXCEPTION 'there is no chain %; there are: %', quote_literal(left(chain, 80)), coalesce(others, 'none')
            USING ERRCODE = 'invalid_parameter_value';
    END IF;
    RETURN found;
END $$
"""

# Times never fall along a chain, so the block that the index blocks_time has last is the newest one.
_BLOCK_AT: Final = """
CREATE OR REPLACE FUNCTION gapless.block_at(chain text, moment timestamptz) RETURNS bigint
LANGUAGE sql STABLE STRICT PARALLEL SAFE
RETURN (SELECT b.number FROM gapless.blocks b WHERE b.chain_id = gapless.chain_id(chain) AND b.time <= moment
        ORDER BY b.time DESC, b.number DESC LIMIT 1)
"""
_BLOCK_AT_ID: Final = """
CREATE OR REPLACE FUNCTION gapless.block_at(chain bigint, moment timestamptz) RETURNS bigint
LANGUAGE sql STABLE STRICT PARALLEL SAFE RETURN gapless.block_at(chain::text, moment)
"""

# By chain and event. A source is wanted up to its end or to the newest block that is indexed on its chain. An event
# that has left the manifest has only sources that are not active.
_SCOPES: Final = """
WITH scopes AS (
    SELECT s.chain_id, s.event_id, bool_or(s.active) AS active,
           coalesce(range_agg(w.blocks), '{}') AS wanted,
           coalesce(range_agg(int8multirange(w.blocks) - gapless.covered(s.coverage, s.end_block, i.tip_number)), '{}')
               AS missing
    FROM gapless.sources s
    JOIN (SELECT n.chain_id, n.tip_number, greatest(n.tip_number, max(upper(a.coverage)) - 1) AS newest
          FROM gapless.chains n LEFT JOIN gapless.sources a USING (chain_id)
          GROUP BY n.chain_id) i USING (chain_id),
    LATERAL (SELECT least(s.end_block, i.newest) AS last) l,
    LATERAL (SELECT CASE WHEN l.last >= s.start_block THEN int8range(s.start_block, l.last + 1)
                         ELSE 'empty' END AS blocks) w
    WHERE s.active OR NOT EXISTS (SELECT FROM gapless.sources o WHERE o.chain_id = s.chain_id
                                  AND o.event_id = s.event_id AND o.active)
    GROUP BY s.chain_id, s.event_id
)"""
_NAMES: Final = """
FROM scopes x
JOIN gapless.chains n USING (chain_id)
JOIN gapless.events e ON e.id = x.event_id
JOIN gapless.contracts c ON c.id = e.contract_id,"""

_VIEWS: Final = {
    "coverage": f"""{_SCOPES}
SELECT x.chain_id, n.name AS chain, c.name AS contract, e.api_name AS event, c.schema_name, e.table_name,
       lower(r) AS first_block, upper(r) - 1 AS last_block, x.active{_NAMES}
LATERAL unnest(x.wanted - x.missing) r
""",
    "gaps": f"""{_SCOPES}
SELECT x.chain_id, n.name AS chain, c.name AS contract, e.api_name AS event, c.schema_name, e.table_name,
       lower(r) AS first_block, upper(r) - 1 AS last_block, upper(r) - lower(r) AS blocks{_NAMES}
LATERAL unnest(x.missing) r
WHERE x.active
""",
}

_COVERED: Final = """
CREATE OR REPLACE FUNCTION gapless.covered(contract text, event text)
RETURNS TABLE (chain_id bigint, first_block bigint, last_block bigint)
LANGUAGE plpgsql STABLE STRICT PARALLEL SAFE ROWS 10 AS $$
BEGIN
    IF NOT EXISTS (SELECT FROM gapless.events e JOIN gapless.contracts c ON c.id = e.contract_id
                   WHERE c.name = contract AND e.api_name = event) THEN
        RAISE EXCEPTION 'there is no event % of a contract %', quote_literal(left(event, 80)),
            quote_literal(left(contract, 80)) USING ERRCODE = 'invalid_parameter_value',
            HINT = 'SELECT c.name, e.api_name FROM gapless.events e JOIN gapless.contracts c ON c.id = e.contract_id';
    END IF;
    RETURN QUERY SELECT v.chain_id, v.first_block, v.last_block FROM gapless.coverage v
                 WHERE v.contract = $1 AND v.event = $2 ORDER BY 1, 2;
END $$
"""

_NAMED: Final = {
    "chain_id": "EIP-155 chain id",
    "chain": "name of the chain in the manifest",
    "contract": "name of the contract in the manifest",
    "event": "name of the event in the API: the ABI's, or Name~selector if overloaded",
    "schema_name": "Postgres schema of the event's table",
    "table_name": "the event's table in it",
}
_VIEW_COMMENTS: Final = {
    "coverage": (
        "A row for each range of blocks whose rows are all in an event's table; gapless.gaps has what is lacking",
        {
            **_NAMED,
            "first_block": "first block of the range",
            "last_block": "last block of the range, included",
            "active": "false: the event has left the manifest, its table gets no more rows",
        },
    ),
    "gaps": (
        "A row for each range of wanted blocks, up to the newest indexed one, whose rows may be lacking in a table",
        {
            **_NAMED,
            "first_block": "first block of the gap",
            "last_block": "last block of the gap, included",
            "blocks": "how many blocks the gap has",
        },
    ),
}

_FUNCTION_COMMENTS: Final = {
    "addr(text)": "An address as the tables store it, 20 bytes, from 0x and 40 hexadecimal digits. An error for "
    "anything else, and for mixed case whose EIP-55 checksum is wrong (that check takes about 0.3 ms)",
    "hex(bytea)": "Bytes as text: 0x and two hexadecimal digits in lower case for each byte",
    "checksum(bytea)": "An address of 20 bytes as text with its EIP-55 checksum. It takes about 0.3 ms: call it "
    "on the rows that are shown, not on those that are searched",
    "keccak256(bytea)": "The keccak-256 hash, 32 bytes, as of an event's signature: "
    "gapless.keccak256('Transfer(address,address,uint256)'). It takes about 0.3 ms for each 136 bytes",
    "units(numeric, integer)": "An amount in units of its token: the smallest unit divided by 10 to the power of "
    "decimals, exact; null where decimals are unknown",
    "hour(timestamptz)": "The beginning of the hour in UTC, whatever the session's time zone",
    "day(timestamptz)": "The day in UTC, whatever the session's time zone",
    "chain_id(text)": "The EIP-155 chain id of a chain, by its name in the manifest or by the id as text; an error "
    "where there is no such chain",
    "block_at(text, timestamptz)": "The last indexed block of a chain at or before a time, the chain by its name; "
    "null: none. All rows up to that time, and only those, have this block_number or a lower one. Blocks without "
    "logs are not all kept, so the chain itself may have had a higher one",
    "block_at(bigint, timestamptz)": "The last indexed block of a chain at or before a time, the chain by its EIP-155 "
    "id; else as the function for a chain's name",
    "covered(text, text)": "A row for each range of blocks, the last included, whose rows are all in the table of an "
    "event (name in the API) of a contract (name in the manifest), by chain",
    "covered(int8multirange, bigint, bigint)": "The blocks that one source covers, given its coverage and end_block "
    "and its chain's tip_number; gapless.covered(contract, event) says it of a whole table by name",
    "close_coverage()": "Trigger of gapless.sources: coverage that is not followed any more gets its end",
    "mark_followed()": "Trigger of gapless.sources: the chain's followed_mark changes with what is followed",
    "balance_problem(integer, bytea)": "Why the balances of a token (20 bytes) in a ledger do not follow from its "
    "transfers; null: they do, as far as known",
}

# By table: columns that had no comment before.
_COLUMNS: Final = {
    "api_keys": {
        "id": "number of the key",
        "created_at": "when the key was made",
        "revoked_at": "when the key was revoked; null: it was not",
    },
    "balance_problems": {
        "ledger_id": "the ledger, gapless.ledgers.id",
        "token": "the token's contract, 20 bytes; gapless.hex shows it, gapless.addr('0x…') writes it",
        "found_at": "when it was found",
    },
    "block_details": {
        "chain_id": "EIP-155 chain id",
        "block_number": "the block",
        "block_hash": "hash of the block, 32 bytes",
        "block_time": "the block's timestamp",
    },
    "blocks": {
        "chain_id": "EIP-155 chain id",
        "number": "the block's number",
        "hash": "hash of the block, 32 bytes",
        "time": "the block's timestamp",
    },
    "chains": {
        "head_time": "timestamp of block head_number",
        "tip_hash": "hash of block tip_number, 32 bytes",
        "tip_time": "timestamp of block tip_number",
        "finalized_hash": "hash of block finalized_number, 32 bytes",
        "bloom_checks": "whether logs are checked against the blocks' blooms",
        "updated_at": "when the row was last written",
    },
    "children": {
        "chain_id": "EIP-155 chain id",
        "contract_id": "the contract that the address is a child of, gapless.contracts.id",
        "address": "the child, 20 bytes; gapless.hex shows it, gapless.addr('0x…') writes it",
        "log_index": "place in the block of the log that announced it",
    },
    "contracts": {
        "id": "number of the contract",
        "created_at": "when the row was added",
    },
    "deployment_blocks": {
        "chain_id": "EIP-155 chain id",
        "address": "the contract, 20 bytes; gapless.hex shows it, gapless.addr('0x…') writes it",
        "found_at": "when it was found",
    },
    "deployments": {
        "contract_id": "the contract, gapless.contracts.id",
        "chain_id": "EIP-155 chain id",
        "addresses": "of kind addresses: 20 bytes each; else empty",
        "start_block": "first wanted block",
        "active": "still in the manifest",
    },
    "digests": {
        "source_id": "the source, gapless.sources.id",
        "first_block": "first block of the range",
        "last_block": "last block of the range, included",
        "rows": "rows of the range",
    },
    "earlier_transfers": {
        "chain_id": "EIP-155 chain id",
        "address": "the token, 20 bytes; gapless.hex shows it, gapless.addr('0x…') writes it",
    },
    "endpoints": {
        "chain_id": "EIP-155 chain id",
        "state": "healthy, unhealthy or unknown",
        "head_number": "newest block that the endpoint reported",
        "details": "measurements and learned limits, for people",
        "updated_at": "when the row was last written",
    },
    "events": {
        "id": "number of the event",
        "contract_id": "the contract, gapless.contracts.id",
        "anonymous": "true: its logs have no topic0",
        "layout_version": "layout of its table",
    },
    "failed_ranges": {
        "source_id": "the source, gapless.sources.id",
        "first_block": "first block of the range",
        "last_block": "last block of the range, included",
        "failed_at": "when nodes were last asked in vain",
    },
    "findings": {
        "id": "number of the finding",
        "chain_id": "EIP-155 chain id",
        "first_block": "first block that is concerned",
        "last_block": "last block that is concerned, included",
        "found_at": "when it was found",
    },
    "foreign_shapes": {
        "event_id": "the event, gapless.events.id",
        "chain_id": "EIP-155 chain id",
        "block_number": "the block that bore the logs",
    },
    "holdings": {
        "ledger_id": "the ledger, gapless.ledgers.id",
        "holder": "the account, 20 bytes; gapless.hex shows it, gapless.addr('0x…') writes it",
    },
    "jobs": {
        "id": "number of the job",
        "parameters": "what was asked for, by the kind's names",
        "state": "queued, running, done, failed or cancelled",
        "cancel_asked": "true: it ends at its next step",
        "created_at": "when it was asked for",
        "started_at": "when it was last begun; null: not yet",
        "ended_at": "when it ended; null: not yet",
    },
    "leases": {
        "expires_at": "when the lease ends unless it is renewed",
    },
    "ledgers": {
        "id": "number of the ledger",
        "chain_id": "EIP-155 chain id",
        "contract_id": "the contract whose transfers are counted, gapless.contracts.id",
        "start_block": "first block that is counted",
        "updated_at": "when the row was last written",
    },
    "missing_details": {
        "chain_id": "EIP-155 chain id",
        "block_number": "the block",
        "failed_at": "when nodes were last asked in vain",
    },
    "orphans": {
        "chain_id": "EIP-155 chain id",
        "number": "the block's number",
        "hash": "hash of the block, 32 bytes",
        "reorg_id": "the reorganisation that dropped it, gapless.reorgs.id",
    },
    "reorgs": {
        "id": "number of the reorganisation",
        "chain_id": "EIP-155 chain id",
        "detected_at": "when it was followed",
        "common_hash": "hash of block common_number, 32 bytes",
        "old_tip_number": "newest block of the dropped branch",
        "old_tip_hash": "hash of block old_tip_number, 32 bytes",
        "new_tip_number": "newest block of the new branch when it was followed",
        "new_tip_hash": "hash of block new_tip_number, 32 bytes",
        "rows_removed": "rows of event tables that were removed",
        "rows_added": "rows of event tables that were added",
    },
    "samples": {
        "chain_id": "EIP-155 chain id",
        "minute": "the minute, at its start",
    },
    "series": {
        "id": "number of the series",
        "contract_id": "the contract that is asked, gapless.contracts.id",
        "version": "+1 with every change of its rows",
        "active": "still in the manifest",
    },
    "series_points": {
        "series_id": "the series, gapless.series.id",
        "chain_id": "EIP-155 chain id",
        "block_number": "block at which all calls were made",
        "block_hash": "hash of the block, 32 bytes",
        "taken_at": "when the calls were made",
        "attempts": "how often the calls were made",
    },
    "sources": {
        "id": "number of the source",
        "chain_id": "EIP-155 chain id",
        "event_id": "the event, gapless.events.id",
        "start_block": "first wanted block",
        "end_block": "last wanted block; null: no end",
        "verified": "blocks proven against receipts roots",
        "active": "still in the manifest",
        "created_at": "when the row was added",
    },
    "token_secrets": {
        "id": "number of the secret",
        "created_at": "when the secret was made",
    },
    "tokens": {
        "chain_id": "EIP-155 chain id",
        "address": "the token's contract, 20 bytes; gapless.hex shows it, gapless.addr('0x…') writes it",
        "name": "what name() answered; null: nothing usable",
        "symbol": "what symbol() answered; null: nothing usable",
        "read_at": "when it was last read",
    },
    "transactions": {
        "chain_id": "EIP-155 chain id",
        "block_number": "the block",
        "tx_index": "place of the transaction in the block, the first is 0",
        "tx_hash": "hash of the transaction, 32 bytes",
        "block_time": "the block's timestamp",
    },
    "undecoded_logs": {
        "event_id": "the event whose topic the log bears, gapless.events.id",
        "chain_id": "EIP-155 chain id",
        "block_number": "block that bore the log",
        "log_index": "place of the log in the block, as the node numbers them",
        "block_time": "the block's timestamp",
        "tx_hash": "hash of the transaction, 32 bytes",
        "tx_index": "place of the transaction in the block, the first is 0",
        "contract_address": "who emitted the log, 20 bytes; gapless.hex shows it, gapless.addr('0x…') writes it",
        "topics": "all topics, 32 bytes each, the event's first",
        "data": "the log's data, raw",
        "reason": "why it cannot be decoded, for people",
    },
    "unfinalized_rows": {
        "chain_id": "EIP-155 chain id",
        "block_number": "the block",
        "event_id": "the event, gapless.events.id",
    },
    "webhook_deliveries": {
        "id": "number of the row",
        "webhook_id": "the webhook, gapless.webhooks.id",
        "message_id": "of the message",
        "message_type": "type of the message",
        "at": "when it was sent",
        "milliseconds": "how long the answer took",
    },
    "webhooks": {
        "id": "name of the webhook, random",
        "old_secret_until": "until when old_secret signs too",
        "description": "what it is for, in its owner's words",
        "chain_id": "EIP-155 chain id",
        "finality": "which rows are delivered: finalized, safe or latest",
        "message_type": "type of that message",
        "leased_until": "when the lease ends",
        "created_at": "when the webhook was made",
    },
}


def _run(statement: str) -> None:
    op.get_bind().exec_driver_sql(statement.replace("%", "%%"))


def _say(of: str, comment: str) -> None:
    _run(f"COMMENT ON {of} IS '" + comment.replace("'", "''") + "'")


def upgrade() -> None:
    functions = (_KECCAK, _CHECKSUM, _ADDR, *_PLAIN, _CHAIN_ID, _BLOCK_AT, _BLOCK_AT_ID)
    views = [f"CREATE OR REPLACE VIEW gapless.{name} AS {body}" for name, body in _VIEWS.items()]
    for statement in (*functions, *views, _COVERED):
        _run(statement)
    for name, comment in _FUNCTION_COMMENTS.items():
        _say(f"FUNCTION gapless.{name}", comment)
    for name, (comment, _) in _VIEW_COMMENTS.items():
        _say(f"VIEW gapless.{name}", comment)
    _say("TABLE gapless.alembic_version", "One row: the revision of the static tables")
    columns = {name: columns for name, (_, columns) in _VIEW_COMMENTS.items()}
    columns["alembic_version"] = {"version_num": "name of the newest migration that was run"}
    for table, comments in {**_COLUMNS, **columns}.items():
        for name, comment in comments.items():
            _say(f"COLUMN gapless.{table}.{name}", comment)


def downgrade() -> None:
    _run("DROP FUNCTION gapless.covered(text, text)")
    _run("DROP VIEW gapless.coverage, gapless.gaps")
    for name in ("block_at(bigint, timestamptz)", "block_at(text, timestamptz)", "chain_id(text)", "addr(text)"):
        _run(f"DROP FUNCTION gapless.{name}")
    for name in ("checksum(bytea)", "keccak256(bytea)", "hex(bytea)", "units(numeric, integer)"):
        _run(f"DROP FUNCTION gapless.{name}")
    _run("DROP FUNCTION gapless.hour(timestamptz), gapless.day(timestamptz)")
    for table, comments in _COLUMNS.items():
        for name in comments:
            _run(f"COMMENT ON COLUMN gapless.{table}.{name} IS NULL")
