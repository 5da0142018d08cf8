"""The static schema of the first release

Revision ID: 0101
Revises:
"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0101"
down_revision = None
branch_labels = None
depends_on = None

# The one place that says what is covered. Postgres puts it into the statements that call it.
_COVERED = """
CREATE FUNCTION gapless.covered(coverage int8multirange, end_block bigint, tip_number bigint) RETURNS int8multirange
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN CASE WHEN upper_inf(coverage)
            THEN coverage * int8multirange(int8range(NULL, coalesce(least(end_block, tip_number), -1) + 1))
            ELSE coverage END
"""

# What was read by other addresses, filters or ends than those that are wanted now says nothing about the blocks to
# come. The chain's row is locked: a follower that is appending a block commits first, and its block is seen.
_CLOSE = """
CREATE FUNCTION gapless.close_coverage() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    tip bigint;
BEGIN
    SELECT tip_number INTO tip FROM gapless.chains WHERE chain_id = NEW.chain_id FOR NO KEY UPDATE;
    NEW.coverage := gapless.covered(
        NEW.coverage, CASE WHEN TG_OP = 'UPDATE' THEN OLD.end_block ELSE NEW.end_block END, tip);
    RETURN NEW;
END $$
"""

# Once in a transaction, however many sources it opens or closes.
_MARK = """
CREATE FUNCTION gapless.mark_followed() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    this bigint := pg_current_xact_id()::text::bigint;
BEGIN
    UPDATE gapless.chains SET followed_mark = this
    WHERE chain_id = CASE WHEN TG_OP = 'DELETE' THEN OLD.chain_id ELSE NEW.chain_id END
      AND followed_mark IS DISTINCT FROM this;
    RETURN NULL;
END $$
"""

_TRIGGERS = (
    """CREATE TRIGGER sources_close_new BEFORE INSERT ON gapless.sources FOR EACH ROW
    WHEN (NOT NEW.active AND upper_inf(NEW.coverage)) EXECUTE FUNCTION gapless.close_coverage()""",
    """CREATE TRIGGER sources_close_changed BEFORE UPDATE ON gapless.sources FOR EACH ROW
    WHEN ((NOT NEW.active OR (NEW.place, NEW.start_block) IS DISTINCT FROM (OLD.place, OLD.start_block)
           OR NEW.end_block IS DISTINCT FROM OLD.end_block) AND upper_inf(NEW.coverage))
    EXECUTE FUNCTION gapless.close_coverage()""",
    """CREATE TRIGGER sources_mark_new AFTER INSERT ON gapless.sources FOR EACH ROW
    WHEN (NEW.followed) EXECUTE FUNCTION gapless.mark_followed()""",
    """CREATE TRIGGER sources_mark_changed AFTER UPDATE ON gapless.sources FOR EACH ROW
    WHEN (NEW.followed IS DISTINCT FROM OLD.followed) EXECUTE FUNCTION gapless.mark_followed()""",
    """CREATE TRIGGER sources_mark_gone AFTER DELETE ON gapless.sources FOR EACH ROW
    WHEN (OLD.followed) EXECUTE FUNCTION gapless.mark_followed()""",
)

# Each reason is one SELECT; the first that tells one is shown.
_PROBLEM = """
CREATE FUNCTION gapless.balance_problem(of_ledger integer, of_token bytea) RETURNS text
LANGUAGE sql STABLE PARALLEL SAFE AS $$
SELECT coalesce(
    (SELECT p.detail FROM gapless.balance_problems p WHERE p.ledger_id = l.id AND p.token = of_token),
    CASE WHEN EXISTS (SELECT FROM gapless.holdings n
                        WHERE n.ledger_id = l.id AND n.token = of_token AND n.amount < 0)
           THEN 'somebody has less than nothing: the token gives without Transfer events' END,
    l.doubt,
    (SELECT 'a log of ' || e.name || ' in block ' || u.block_number || ' is not counted: ' || u.reason
     FROM gapless.undecoded_logs u JOIN gapless.events e ON e.id = u.event_id
     WHERE u.chain_id = l.chain_id AND u.contract_address = of_token AND u.event_id = ANY (l.event_ids)
       AND NOT u.has_row AND u.block_number BETWEEN l.start_block AND l.through_block
     ORDER BY u.block_number LIMIT 1),
    (SELECT 'logs of ' || e.name || ' in block ' || f.block_number || ' are not counted: they have ' || f.topics
         || ' topics, other arguments are indexed'
     FROM gapless.foreign_shapes f JOIN gapless.events e ON e.id = f.event_id
     WHERE f.addresses @> ARRAY[of_token] AND f.chain_id = l.chain_id AND f.event_id = ANY (l.event_ids)
       AND f.block_number BETWEEN l.start_block AND l.through_block
     ORDER BY f.block_number LIMIT 1),
    (SELECT 'an audit found its rows wrong in block ' || f.first_block || ' (' || f.kind || '): ' || f.detail
     FROM gapless.findings f
     WHERE f.chain_id = l.chain_id AND f.repaired_at IS NULL
       AND (f.event_id IS NULL OR f.event_id = ANY (l.event_ids))
       AND f.first_block <= l.through_block AND f.last_block >= l.start_block
     ORDER BY f.first_block LIMIT 1),
    (SELECT CASE
        WHEN e.found_block IS NOT NULL
        THEN 'it gave in block ' || e.found_block || ', and is counted from block ' || b.before
        WHEN e.silent THEN NULL
        WHEN l.place ->> 'kind' = 'factory' AND b.before > l.start_block THEN (
            SELECT 'its factory announces tokens that gave before that: 0x' || encode(o.address, 'hex')
                || ' gave in block ' || o.found_block || '; this one may have given before block ' || b.before
            FROM gapless.earlier_transfers o JOIN gapless.children c
              ON c.chain_id = o.chain_id AND c.contract_id = l.contract_id AND c.address = o.address
             AND c.block_number = o.before_block
            WHERE o.chain_id = l.chain_id AND o.found_block IS NOT NULL LIMIT 1)
        WHEN b.before > 1
        THEN 'it is not known whether it gave before block ' || b.before || ', from which it is counted'
            || coalesce(': ' || e.detail, '') END
     FROM (SELECT greatest(l.start_block, (
               SELECT c.block_number FROM gapless.children c
               WHERE l.place ->> 'kind' = 'factory' AND c.chain_id = l.chain_id
                 AND c.contract_id = l.contract_id AND c.address = of_token)) AS before) b
     LEFT JOIN gapless.earlier_transfers e
       ON e.chain_id = l.chain_id AND e.address = of_token AND e.before_block = b.before))
FROM gapless.ledgers l WHERE l.id = of_ledger
$$
"""

_BALANCES = """
CREATE VIEW gapless.balances AS
SELECT l.chain_id, c.name AS contract, l.kind, h.token, h.token_id, h.holder, h.amount,
       l.through_block AS block_number, NOT l.live AS stale, gapless.balance_problem(l.id, h.token)::varchar AS problem
FROM gapless.holdings h
JOIN gapless.ledgers l ON l.id = h.ledger_id AND l.served
JOIN gapless.contracts c ON c.id = l.contract_id
"""

_BALANCES_COLUMNS = {
    "chain_id": "EIP-155 chain id",
    "contract": "name in the manifest of the contract whose transfers were counted",
    "kind": "erc20, erc721 or erc1155",
    "token": "the contract of the token, 20 bytes",
    "token_id": "0 for ERC-20",
    "holder": "who has it, 20 bytes",
    "amount": "in the smallest unit of the token; 1 for ERC-721; never 0",
    "block_number": "true at the end of this block",
    "stale": "true: counted no further than block_number (gapless.ledgers says why)",
    "problem": "why the balances of the token do not follow from its transfers; null: they do, as far as known",
}


def upgrade() -> None:  # noqa: PLR0915 - all tables
    op.execute("COMMENT ON SCHEMA gapless IS 'What is indexed, how far, and what is known of chains and tokens'")
    op.create_table(
        "api_keys",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("name", sa.String(), nullable=False, comment="whose it is, for people"),
        sa.Column("hash", sa.LargeBinary(), nullable=False, comment="SHA-256 of the key, which is kept nowhere"),
        sa.Column("prefix", sa.String(), nullable=False, comment="its first characters, to recognise it by"),
        sa.Column("scopes", sa.ARRAY(sa.String()), nullable=False, comment="read, webhooks, admin"),
        sa.Column(
            "origins",
            sa.ARRAY(sa.String()),
            server_default=sa.text("'{}'::varchar[]"),
            nullable=False,
            comment="web origins that may use it; none: any, and programs too",
        ),
        sa.Column("rate", sa.Integer(), nullable=True, comment="requests a minute; null: as the settings say"),
        sa.Column("expires_at", sa.DateTime(timezone=True), nullable=True, comment="null: never"),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("revoked_at", sa.DateTime(timezone=True), nullable=True),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("hash"),
        schema="gapless",
        comment="Keys of the read API",
    )
    op.create_table(
        "block_details",
        sa.Column("chain_id", sa.BigInteger(), nullable=False),
        sa.Column("block_number", sa.BigInteger(), nullable=False),
        sa.Column("block_hash", sa.LargeBinary(), nullable=False),
        sa.Column("block_time", sa.DateTime(timezone=True), nullable=False),
        sa.Column("miner", sa.LargeBinary(), nullable=True, comment="fee recipient, 20 bytes; null: not said"),
        sa.Column("gas_limit", sa.Numeric(precision=78, scale=0), nullable=True, comment="null: not said"),
        sa.Column("gas_used", sa.Numeric(precision=78, scale=0), nullable=True, comment="null: not said"),
        sa.Column(
            "base_fee", sa.Numeric(precision=78, scale=0), nullable=True, comment="wei per gas; null: before EIP-1559"
        ),
        sa.Column("transaction_count", sa.BigInteger(), nullable=True, comment="null: not said"),
        sa.Column("size", sa.Numeric(precision=78, scale=0), nullable=True, comment="bytes"),
        sa.PrimaryKeyConstraint("chain_id", "block_number"),
        schema="gapless",
        comment="Blocks that bore events of contracts with include = block",
    )
    op.create_table(
        "blocks",
        sa.Column("chain_id", sa.BigInteger(), nullable=False),
        sa.Column("number", sa.BigInteger(), nullable=False),
        sa.Column("hash", sa.LargeBinary(), nullable=False),
        sa.Column("parent_hash", sa.LargeBinary(), nullable=True, comment="null where only the block's logs were seen"),
        sa.Column("time", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("chain_id", "number"),
        schema="gapless",
        comment=("Blocks that bore a log, ends of chunks, all above finalized, and some of those followed before"),
    )
    op.create_index("blocks_time", "blocks", ["chain_id", "time"], unique=False, schema="gapless")
    op.create_table(
        "cache_secret",
        sa.Column("id", sa.SmallInteger(), autoincrement=False, nullable=False, comment="always 1"),
        sa.Column(
            "secret", sa.LargeBinary(), nullable=False, comment="32 random bytes; values in Redis are signed with them"
        ),
        sa.PrimaryKeyConstraint("id"),
        schema="gapless",
        comment="What values in Redis are signed with, where the environment names no secret",
    )
    op.create_table(
        "catalog",
        sa.Column("id", sa.SmallInteger(), autoincrement=False, nullable=False, comment="always 1"),
        sa.Column("version", sa.BigInteger(), nullable=False, comment="+1 with every change of what is declared"),
        sa.PrimaryKeyConstraint("id"),
        schema="gapless",
        comment="One row: the version of contracts, events, sources and series as a whole",
    )
    op.create_table(
        "chains",
        sa.Column("chain_id", sa.BigInteger(), autoincrement=False, nullable=False, comment="EIP-155 chain id"),
        sa.Column("name", sa.String(), nullable=False, comment="name in the manifest"),
        sa.Column(
            "genesis_hash", sa.LargeBinary(), nullable=True, comment="hash of block 0: another one is another chain"
        ),
        sa.Column("head_number", sa.BigInteger(), nullable=True, comment="newest block that the nodes reported"),
        sa.Column("head_time", sa.DateTime(timezone=True), nullable=True),
        sa.Column(
            "head_seen_at", sa.DateTime(timezone=True), nullable=True, comment="when head_number was last reported"
        ),
        sa.Column("tip_number", sa.BigInteger(), nullable=True, comment="newest block that the follower has indexed"),
        sa.Column("tip_hash", sa.LargeBinary(), nullable=True),
        sa.Column("tip_time", sa.DateTime(timezone=True), nullable=True),
        sa.Column("safe_number", sa.BigInteger(), nullable=True, comment="newest block with the node's tag safe"),
        sa.Column(
            "finalized_number",
            sa.BigInteger(),
            nullable=True,
            comment="the follower alone writes above it, backfill alone below",
        ),
        sa.Column("finalized_hash", sa.LargeBinary(), nullable=True),
        sa.Column(
            "state",
            sa.String(),
            server_default="starting",
            nullable=False,
            comment="starting, following, waiting, halted",
        ),
        sa.Column("state_reason", sa.String(), nullable=True, comment="why halted or waiting, and what to do"),
        sa.Column("follower", sa.String(), nullable=True, comment="who follows the head now, for people"),
        sa.Column(
            "follower_epoch", sa.BigInteger(), server_default="0", nullable=False, comment="+1 with each new follower"
        ),
        sa.Column("bloom_checks", sa.Boolean(), server_default=sa.text("true"), nullable=False),
        sa.Column(
            "active", sa.Boolean(), server_default=sa.text("true"), nullable=False, comment="still in the manifest"
        ),
        sa.Column("updated_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column(
            "thinned_number",
            sa.BigInteger(),
            nullable=True,
            comment="up to here blocks that bore no log were thinned out",
        ),
        sa.Column(
            "followed_mark",
            sa.BigInteger(),
            nullable=True,
            comment="another one each time that other sources are followed",
        ),
        sa.Column(
            "noted_above", sa.BigInteger(), nullable=True, comment="all rows above this block are in unfinalized_rows"
        ),
        sa.Column(
            "noted_epoch", sa.BigInteger(), nullable=True, comment="the follower_epoch whose follower said so last"
        ),
        sa.Column(
            "moved_at",
            sa.DateTime(timezone=True),
            nullable=True,
            comment="when the tip last changed, or the chain was first followed",
        ),
        sa.Column(
            "dev",
            sa.Boolean(),
            server_default=sa.text("false"),
            nullable=False,
            comment="it makes blocks when they are needed",
        ),
        sa.PrimaryKeyConstraint("chain_id"),
        sa.UniqueConstraint("name"),
        schema="gapless",
        comment="One EVM network each, and how far it is indexed",
    )
    op.create_table(
        "contracts",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("name", sa.String(), nullable=False, comment="name in the manifest"),
        sa.Column("schema_name", sa.String(), nullable=False, comment="Postgres schema of its event tables"),
        sa.Column("abi", postgresql.JSONB(), nullable=False, comment="the whole ABI as given"),
        sa.Column(
            "active", sa.Boolean(), server_default=sa.text("true"), nullable=False, comment="still in the manifest"
        ),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("name"),
        sa.UniqueConstraint("schema_name"),
        schema="gapless",
        comment="A name, an ABI, and (by deployments) where it lives",
    )
    op.create_table(
        "deployment_blocks",
        sa.Column("chain_id", sa.BigInteger(), nullable=False),
        sa.Column("address", sa.LargeBinary(), nullable=False),
        sa.Column(
            "block_number",
            sa.BigInteger(),
            nullable=False,
            comment="first block with code at the address, or with its log",
        ),
        sa.Column(
            "checked_from",
            sa.BigInteger(),
            nullable=True,
            comment="from here to block_number no log of the address was found; null: nobody looked",
        ),
        sa.Column("found_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.PrimaryKeyConstraint("chain_id", "address"),
        schema="gapless",
        comment='Where contracts with start_block = "auto" were deployed, as an archive node told once',
    )
    op.create_table(
        "earlier_transfers",
        sa.Column("chain_id", sa.BigInteger(), nullable=False),
        sa.Column("address", sa.LargeBinary(), nullable=False),
        sa.Column("before_block", sa.BigInteger(), nullable=False, comment="from here on its transfers are counted"),
        sa.Column(
            "found_block",
            sa.BigInteger(),
            nullable=True,
            comment="a block before that in which it gave; null: none was found",
        ),
        sa.Column("silent", sa.Boolean(), nullable=False, comment="true: it gave nothing before that"),
        sa.Column("checked_from", sa.BigInteger(), nullable=False, comment="from here to before_block it gave nothing"),
        sa.Column("detail", sa.String(), nullable=True, comment="why it is not known, for people"),
        sa.Column("attempts", sa.SmallInteger(), nullable=False, comment="times that nodes were asked in vain"),
        sa.Column(
            "asked_again_at",
            sa.DateTime(timezone=True),
            nullable=True,
            comment="when nodes are asked again; null: it is known",
        ),
        sa.PrimaryKeyConstraint("chain_id", "address", "before_block"),
        schema="gapless",
        comment="Whether tokens whose balances are kept gave anything before their transfers are counted",
    )
    op.create_index(
        "earlier_transfers_found",
        "earlier_transfers",
        ["chain_id", "address"],
        unique=False,
        schema="gapless",
        postgresql_where=sa.text("found_block IS NOT NULL"),
    )
    op.create_table(
        "endpoints",
        sa.Column("chain_id", sa.BigInteger(), nullable=False),
        sa.Column("position", sa.Integer(), nullable=False, comment="place in the manifest's list"),
        sa.Column("host", sa.String(), nullable=False, comment="scheme and host only: URLs carry keys"),
        sa.Column("state", sa.String(), nullable=False),
        sa.Column("head_number", sa.BigInteger(), nullable=True),
        sa.Column("details", postgresql.JSONB(), server_default=sa.text("'{}'::jsonb"), nullable=False),
        sa.Column("updated_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.PrimaryKeyConstraint("chain_id", "position"),
        schema="gapless",
        comment="The indexer's latest view of its endpoints",
    )
    op.create_table(
        "holdings",
        sa.Column("ledger_id", sa.Integer(), nullable=False),
        sa.Column("token", sa.LargeBinary(), nullable=False, comment="the token's contract, 20 bytes"),
        sa.Column("token_id", sa.Numeric(precision=78, scale=0), nullable=False, comment="0 for ERC-20"),
        sa.Column("holder", sa.LargeBinary(), nullable=False),
        sa.Column(
            "amount", sa.Numeric(), nullable=False, comment="in the token's smallest unit; 1 for ERC-721; never 0"
        ),
        sa.PrimaryKeyConstraint("ledger_id", "token", "token_id", "holder"),
        schema="gapless",
        comment=("Who has how much of what, by the transfers that a ledger has counted (see the view balances)"),
    )
    op.create_index(
        "holdings_empty",
        "holdings",
        ["ledger_id"],
        unique=False,
        schema="gapless",
        postgresql_where=sa.text("amount = 0"),
    )
    op.create_index(
        "holdings_holder", "holdings", ["holder", "ledger_id", "token", "token_id"], unique=False, schema="gapless"
    )
    op.create_index(
        "holdings_negative",
        "holdings",
        ["ledger_id", "token"],
        unique=False,
        schema="gapless",
        postgresql_where=sa.text("amount < 0"),
    )
    op.create_index(
        "holdings_top",
        "holdings",
        ["ledger_id", "token", "token_id", "amount", "holder"],
        unique=False,
        schema="gapless",
    )
    op.create_table(
        "jobs",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("kind", sa.String(), nullable=False, comment="repair, audit, redecode or refresh_tokens"),
        sa.Column("parameters", postgresql.JSONB(), nullable=False),
        sa.Column("state", sa.String(), server_default="queued", nullable=False),
        sa.Column("progress", postgresql.JSONB(), nullable=True, comment="how far it is, as the job's kind tells it"),
        sa.Column("result", postgresql.JSONB(), nullable=True, comment="what came of it, once it is done"),
        sa.Column("error", sa.String(), nullable=True, comment="why it failed"),
        sa.Column("created_by", sa.String(), nullable=False, comment="who asked for it, such as: key 3"),
        sa.Column("cancel_asked", sa.Boolean(), server_default=sa.text("false"), nullable=False),
        sa.Column("worker", sa.String(), nullable=True, comment="the process that is at it"),
        sa.Column("attempts", sa.Integer(), server_default="0", nullable=False, comment="how often it was begun"),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("started_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column(
            "heartbeat_at",
            sa.DateTime(timezone=True),
            nullable=True,
            comment="when its worker was last heard of; taken over when that is long ago",
        ),
        sa.Column("ended_at", sa.DateTime(timezone=True), nullable=True),
        sa.CheckConstraint("state IN ('queued', 'running', 'done', 'failed', 'cancelled')", name="jobs_state"),
        sa.PrimaryKeyConstraint("id"),
        schema="gapless",
        comment="Work that was asked for through the API, and what became of it",
    )
    op.create_index(
        "jobs_waiting",
        "jobs",
        ["kind", "id"],
        unique=False,
        schema="gapless",
        postgresql_where=sa.text("state IN ('queued', 'running')"),
    )
    op.create_table(
        "leases",
        sa.Column(
            "name", sa.String(), nullable=False, comment="follow <chain id>, or what else one process at a time may do"
        ),
        sa.Column(
            "holder", sa.String(), nullable=False, comment="application_name of the sessions of the process that has it"
        ),
        sa.Column("token", sa.UUID(), nullable=False, comment="proves a renewal to be the holder's"),
        sa.Column("expires_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("name"),
        schema="gapless",
        comment="What one process at a time may do; a right ends by itself where it is not renewed",
    )
    op.create_table(
        "missing_details",
        sa.Column("chain_id", sa.BigInteger(), nullable=False),
        sa.Column("block_number", sa.BigInteger(), nullable=False),
        sa.Column("kind", sa.String(), nullable=False, comment="block, transaction or receipt"),
        sa.Column(
            "tx_index", sa.BigInteger(), nullable=False, comment="place of the transaction; -1: the block itself"
        ),
        sa.Column("tx_hash", sa.LargeBinary(), nullable=False, comment="of the transaction, or of the block"),
        sa.Column("reason", sa.String(), nullable=False, comment="what the nodes said, for people"),
        sa.Column("failures", sa.BigInteger(), server_default="1", nullable=False, comment="how often in a row"),
        sa.Column("failed_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("retry_at", sa.DateTime(timezone=True), nullable=False, comment="not asked for again before"),
        sa.PrimaryKeyConstraint("chain_id", "block_number", "kind", "tx_index"),
        schema="gapless",
        comment="What include names and no node gave; asked for again and again, at growing intervals",
    )
    op.create_index(
        "missing_details_retry", "missing_details", ["chain_id", "retry_at"], unique=False, schema="gapless"
    )
    op.create_table(
        "token_secrets",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column(
            "secret", sa.LargeBinary(), nullable=False, comment="32 random bytes; whoever knows them can make tokens"
        ),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.PrimaryKeyConstraint("id"),
        schema="gapless",
        comment="What the API signs its short-lived tokens with; the newest signs, older ones end",
    )
    op.create_table(
        "tokens",
        sa.Column("chain_id", sa.BigInteger(), nullable=False),
        sa.Column("address", sa.LargeBinary(), nullable=False),
        sa.Column("kind", sa.String(), nullable=True, comment="erc20, erc721, erc1155 or null: unknown"),
        sa.Column("name", sa.String(), nullable=True),
        sa.Column("symbol", sa.String(), nullable=True),
        sa.Column("decimals", sa.SmallInteger(), nullable=True, comment="null: unknown, which is neither 0 nor 18"),
        sa.Column(
            "problems", postgresql.JSONB(), nullable=True, comment='what was odd, by field: {"symbol": "bytes32"}'
        ),
        sa.Column("block_number", sa.BigInteger(), nullable=False, comment="read at this block"),
        sa.Column("read_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column(
            "asked_again_at",
            sa.DateTime(timezone=True),
            nullable=True,
            comment="null: never; it may not have been deployed, or no node would run its calls",
        ),
        sa.Column(
            "attempts", sa.SmallInteger(), server_default="1", nullable=False, comment="times that it was asked in vain"
        ),
        sa.PrimaryKeyConstraint("chain_id", "address"),
        schema="gapless",
        comment="What tokens say of themselves",
    )
    op.create_index("tokens_block", "tokens", ["chain_id", "block_number"], unique=False, schema="gapless")
    op.create_table(
        "transactions",
        sa.Column("chain_id", sa.BigInteger(), nullable=False),
        sa.Column("block_number", sa.BigInteger(), nullable=False),
        sa.Column("tx_index", sa.BigInteger(), nullable=False),
        sa.Column("tx_hash", sa.LargeBinary(), nullable=False),
        sa.Column("block_time", sa.DateTime(timezone=True), nullable=False),
        sa.Column("sender", sa.LargeBinary(), nullable=True, comment="who signed it, 20 bytes; null: not said"),
        sa.Column("recipient", sa.LargeBinary(), nullable=True, comment="20 bytes; null: a contract was created"),
        sa.Column("type", sa.Numeric(precision=78, scale=0), nullable=True, comment="EIP-2718 type; null: not said"),
        sa.Column(
            "value", sa.Numeric(precision=78, scale=0), nullable=True, comment="wei; null: transaction not included"
        ),
        sa.Column("nonce", sa.Numeric(precision=78, scale=0), nullable=True, comment="null: transaction not included"),
        sa.Column(
            "gas_limit", sa.Numeric(precision=78, scale=0), nullable=True, comment="null: transaction not included"
        ),
        sa.Column(
            "status",
            sa.Numeric(precision=78, scale=0),
            nullable=True,
            comment="1: success; null: no receipt, or a state root",
        ),
        sa.Column("gas_used", sa.Numeric(precision=78, scale=0), nullable=True, comment="null: receipt not included"),
        sa.Column(
            "effective_gas_price",
            sa.Numeric(precision=78, scale=0),
            nullable=True,
            comment="wei per gas; null: receipt not included",
        ),
        sa.Column("created_contract", sa.LargeBinary(), nullable=True, comment="the contract it created, 20 bytes"),
        sa.PrimaryKeyConstraint("chain_id", "block_number", "tx_index"),
        schema="gapless",
        comment="Transactions that bore events of contracts with include = transaction or receipt",
    )
    op.create_index("transactions_hash", "transactions", ["chain_id", "tx_hash"], unique=False, schema="gapless")
    op.create_index(
        "transactions_sender",
        "transactions",
        ["chain_id", "sender", "block_number", "tx_index"],
        unique=False,
        schema="gapless",
    )
    op.create_table(
        "children",
        sa.Column("chain_id", sa.BigInteger(), nullable=False),
        sa.Column("contract_id", sa.Integer(), nullable=False),
        sa.Column("address", sa.LargeBinary(), nullable=False),
        sa.Column("block_number", sa.BigInteger(), nullable=False, comment="block of birth"),
        sa.Column("log_index", sa.BigInteger(), nullable=False),
        sa.Column("factory_address", sa.LargeBinary(), nullable=False, comment="the contract that announced it"),
        sa.ForeignKeyConstraint(["contract_id"], ["gapless.contracts.id"], ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("chain_id", "contract_id", "address"),
        schema="gapless",
        comment="The addresses that a factory rule has found, each with its birth",
    )
    op.create_index(
        "children_birth", "children", ["chain_id", "contract_id", "block_number"], unique=False, schema="gapless"
    )
    op.create_table(
        "deployments",
        sa.Column("contract_id", sa.Integer(), nullable=False),
        sa.Column("chain_id", sa.BigInteger(), nullable=False),
        sa.Column("kind", sa.String(), nullable=False, comment="addresses, factory or any"),
        sa.Column("addresses", sa.ARRAY(sa.LargeBinary()), server_default=sa.text("'{}'::bytea[]"), nullable=False),
        sa.Column(
            "factories", postgresql.JSONB(), nullable=True, comment="[{contract, event, argument}] of a factory rule"
        ),
        sa.Column("start_block", sa.BigInteger(), nullable=False),
        sa.Column("end_block", sa.BigInteger(), nullable=True, comment="last wanted block; null: for ever"),
        sa.Column("active", sa.Boolean(), server_default=sa.text("true"), nullable=False),
        sa.Column(
            "include",
            sa.ARRAY(sa.String()),
            server_default=sa.text("'{}'::varchar[]"),
            nullable=False,
            comment="what to keep besides the logs: block, transaction, receipt",
        ),
        sa.Column(
            "included",
            postgresql.INT8MULTIRANGE(),
            server_default=sa.text("'{}'::int8multirange"),
            nullable=False,
            comment="blocks for whose events all of include is there",
        ),
        sa.Column(
            "adopted",
            sa.Boolean(),
            server_default=sa.text("true"),
            nullable=False,
            comment="false: the factory rules are new, and their children not looked for in the tables yet",
        ),
        sa.ForeignKeyConstraint(
            ["chain_id"],
            ["gapless.chains.chain_id"],
        ),
        sa.ForeignKeyConstraint(["contract_id"], ["gapless.contracts.id"], ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("contract_id", "chain_id"),
        schema="gapless",
        comment="Where a contract lives on one chain, as the manifest says",
    )
    op.create_table(
        "events",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("contract_id", sa.Integer(), nullable=False),
        sa.Column("name", sa.String(), nullable=False, comment="name in the ABI"),
        sa.Column(
            "api_name",
            sa.String(),
            nullable=False,
            comment="name in the API: the ABI's, or Name~selector if overloaded",
        ),
        sa.Column("signature", sa.String(), nullable=False, comment="Transfer(address,address,uint256)"),
        sa.Column(
            "topic0",
            sa.LargeBinary(),
            nullable=False,
            comment="keccak-256 of the signature, also of an anonymous event",
        ),
        sa.Column("anonymous", sa.Boolean(), nullable=False),
        sa.Column("abi", postgresql.JSONB(), nullable=False, comment="the event's item of the ABI"),
        sa.Column("table_name", sa.String(), nullable=False, comment="in the contract's schema_name"),
        sa.Column(
            "columns",
            postgresql.JSONB(),
            nullable=False,
            comment="the arguments' columns (indexer.abi.columns.Column), in order",
        ),
        sa.Column("layout_version", sa.Integer(), nullable=False),
        sa.Column(
            "version",
            sa.BigInteger(),
            server_default="0",
            nullable=False,
            comment=("+1 with rows or coverage that history gets; new rows of the head show in the chain's tip"),
        ),
        sa.Column(
            "rewrite_version",
            sa.BigInteger(),
            server_default="0",
            nullable=False,
            comment="+1 in every transaction that changes what a covered, finalized range answers",
        ),
        sa.Column(
            "active", sa.Boolean(), server_default=sa.text("true"), nullable=False, comment="still in the manifest"
        ),
        sa.Column(
            "indexes",
            sa.ARRAY(sa.String()),
            server_default=sa.text("'{}'::varchar[]"),
            nullable=False,
            comment="columns that are to have an index",
        ),
        sa.Column(
            "indexes_put_off",
            sa.Boolean(),
            server_default=sa.text("false"),
            nullable=False,
            comment="true: a large first backfill is under way, the indexes are built at its end",
        ),
        sa.ForeignKeyConstraint(["contract_id"], ["gapless.contracts.id"], ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("contract_id", "table_name"),
        sa.UniqueConstraint("contract_id", "topic0"),
        schema="gapless",
        comment="One event of a contract's ABI, and its table",
    )
    op.create_table(
        "ledgers",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("chain_id", sa.BigInteger(), nullable=False),
        sa.Column("contract_id", sa.Integer(), nullable=False),
        sa.Column("kind", sa.String(), nullable=False, comment="erc20, erc721 or erc1155"),
        sa.Column(
            "event_ids", sa.ARRAY(sa.Integer()), nullable=False, comment="the transfer events that it counts, ascending"
        ),
        sa.Column(
            "place", postgresql.JSONB(), nullable=False, comment="whose transfers it counts, as in sources.place"
        ),
        sa.Column("start_block", sa.BigInteger(), nullable=False),
        sa.Column(
            "through_block", sa.BigInteger(), nullable=False, comment="its holdings are true at the end of this block"
        ),
        sa.Column(
            "live", sa.Boolean(), nullable=False, comment="false: it goes no further; stale, or no longer wanted"
        ),
        sa.Column("served", sa.Boolean(), nullable=False, comment="the one that answers; another one may be under way"),
        sa.Column("remark", sa.String(), nullable=True, comment="why it is not live"),
        sa.Column(
            "doubt",
            sa.String(),
            nullable=True,
            comment="why what its events tell may not be all; null: nothing speaks for that",
        ),
        sa.Column(
            "version",
            sa.BigInteger(),
            server_default="0",
            nullable=False,
            comment="+1 with every change of its holdings",
        ),
        sa.Column("updated_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column(
            "compared_at",
            sa.DateTime(timezone=True),
            nullable=True,
            comment="when its tokens were asked what holders have",
        ),
        sa.ForeignKeyConstraint(["contract_id"], ["gapless.contracts.id"], ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("id"),
        schema="gapless",
        comment="The balances of one contract on one chain, and how far they go",
    )
    op.create_index(
        "ledgers_live",
        "ledgers",
        ["contract_id", "chain_id"],
        unique=True,
        schema="gapless",
        postgresql_where=sa.text("live"),
    )
    op.create_index(
        "ledgers_served",
        "ledgers",
        ["contract_id", "chain_id"],
        unique=True,
        schema="gapless",
        postgresql_where=sa.text("served"),
    )
    op.create_table(
        "reorgs",
        sa.Column("id", sa.BigInteger(), nullable=False),
        sa.Column("chain_id", sa.BigInteger(), nullable=False),
        sa.Column("detected_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("common_number", sa.BigInteger(), nullable=False, comment="last block that both branches share"),
        sa.Column("common_hash", sa.LargeBinary(), nullable=False),
        sa.Column("old_tip_number", sa.BigInteger(), nullable=False),
        sa.Column("old_tip_hash", sa.LargeBinary(), nullable=False),
        sa.Column("new_tip_number", sa.BigInteger(), nullable=False),
        sa.Column("new_tip_hash", sa.LargeBinary(), nullable=False),
        sa.Column("depth", sa.Integer(), nullable=False, comment="blocks of the old branch that were dropped"),
        sa.Column("rows_removed", sa.BigInteger(), nullable=False),
        sa.Column("rows_added", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(
            ["chain_id"],
            ["gapless.chains.chain_id"],
        ),
        sa.PrimaryKeyConstraint("id"),
        schema="gapless",
        comment="Every reorganisation that was followed",
    )
    op.create_index("reorgs_chain", "reorgs", ["chain_id", "id"], unique=False, schema="gapless")
    op.create_table(
        "series",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("name", sa.String(), nullable=False, comment="name in the manifest"),
        sa.Column("contract_id", sa.Integer(), nullable=False),
        sa.Column("calls", postgresql.JSONB(), nullable=False, comment="function signatures, in order"),
        sa.Column("every", sa.String(), nullable=False, comment="the schedule, as in the manifest"),
        sa.Column("table_name", sa.String(), nullable=False, comment="in the contract's schema_name"),
        sa.Column("columns", postgresql.JSONB(), nullable=False, comment="the outputs' columns, in order"),
        sa.Column("version", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("active", sa.Boolean(), server_default=sa.text("true"), nullable=False),
        sa.Column(
            "definition",
            postgresql.JSONB(),
            nullable=True,
            comment="arguments and names of the calls, and the query; null: none of them",
        ),
        sa.ForeignKeyConstraint(["contract_id"], ["gapless.contracts.id"], ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("contract_id", "table_name"),
        sa.UniqueConstraint("name"),
        schema="gapless",
        comment="A snapshot: a series of multicall reads taken on a schedule, each at one block",
    )
    op.create_table(
        "webhooks",
        sa.Column("id", sa.String(), nullable=False),
        sa.Column("owner", sa.String(), nullable=False, comment="who made it, such as: key 3"),
        sa.Column("key_id", sa.Integer(), nullable=True, comment="of the key that made it; it ends with that key"),
        sa.Column("url", sa.LargeBinary(), nullable=False, comment="encrypted: paths and queries carry secrets"),
        sa.Column("host", sa.String(), nullable=False, comment="the URL's host, which may be shown"),
        sa.Column("secret", sa.LargeBinary(), nullable=False, comment="encrypted; signs the messages"),
        sa.Column("old_secret", sa.LargeBinary(), nullable=True, comment="encrypted; signs too until old_secret_until"),
        sa.Column("old_secret_until", sa.DateTime(timezone=True), nullable=True),
        sa.Column("description", sa.String(), nullable=True),
        sa.Column("chain_id", sa.BigInteger(), nullable=False),
        sa.Column("contract", sa.String(), nullable=True, comment="null: all of the chain"),
        sa.Column("event", sa.String(), nullable=True, comment="its API name; null: all of the contract"),
        sa.Column(
            "filters",
            postgresql.JSONB(),
            server_default=sa.text("'{}'::jsonb"),
            nullable=False,
            comment="as in the URL of the rows",
        ),
        sa.Column("finality", sa.String(), server_default="finalized", nullable=False),
        sa.Column("batch", sa.Integer(), server_default="100", nullable=False, comment="most rows of a message"),
        sa.Column("state", sa.String(), server_default="active", nullable=False, comment="active, paused or disabled"),
        sa.Column("reason", sa.String(), nullable=True, comment="why it is disabled, or not delivered"),
        sa.Column("position", sa.String(), nullable=False, comment="a cursor: all up to it was delivered"),
        sa.Column(
            "told_block",
            sa.BigInteger(),
            nullable=True,
            comment="no row of a later block was in a message; null: none at all was",
        ),
        sa.Column("looked", sa.String(), nullable=True, comment="the chain's state in which nothing more was found"),
        sa.Column("sequence", sa.BigInteger(), server_default="0", nullable=False, comment="of the newest message"),
        sa.Column("message_id", sa.String(), nullable=True, comment="of the message that is not acknowledged yet"),
        sa.Column("message_type", sa.String(), nullable=True),
        sa.Column("message", sa.LargeBinary(), nullable=True, comment="its body, the same at every attempt"),
        sa.Column("message_position", sa.String(), nullable=True, comment="the position once it is acknowledged"),
        sa.Column("failures", sa.Integer(), server_default="0", nullable=False, comment="failed attempts of it"),
        sa.Column(
            "due_at",
            sa.DateTime(timezone=True),
            server_default=sa.text("now()"),
            nullable=False,
            comment="when to look or to try again",
        ),
        sa.Column("test_id", sa.String(), nullable=True, comment="of a test message that was asked for"),
        sa.Column("lease", sa.String(), nullable=True, comment="who is delivering"),
        sa.Column("leased_until", sa.DateTime(timezone=True), nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column(
            "delivered_at", sa.DateTime(timezone=True), nullable=True, comment="when a message was last acknowledged"
        ),
        sa.ForeignKeyConstraint(
            ["key_id"],
            ["gapless.api_keys.id"],
        ),
        sa.PrimaryKeyConstraint("id"),
        schema="gapless",
        comment="Subscriptions to rows, delivered by HTTP",
    )
    op.create_index("webhooks_owner_idx", "webhooks", ["owner"], unique=False, schema="gapless")
    op.create_table(
        "balance_problems",
        sa.Column("ledger_id", sa.Integer(), nullable=False),
        sa.Column("token", sa.LargeBinary(), nullable=False),
        sa.Column("detail", sa.String(), nullable=False, comment="what is wrong, for people"),
        sa.Column("block_number", sa.BigInteger(), nullable=False, comment="found at this block"),
        sa.Column("found_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.ForeignKeyConstraint(["ledger_id"], ["gapless.ledgers.id"], ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("ledger_id", "token"),
        schema="gapless",
        comment="Tokens whose balances do not follow from their transfers, as audits found",
    )
    op.create_table(
        "foreign_shapes",
        sa.Column("event_id", sa.Integer(), nullable=False),
        sa.Column("chain_id", sa.BigInteger(), nullable=False),
        sa.Column("block_number", sa.BigInteger(), nullable=False),
        sa.Column(
            "topics", sa.SmallInteger(), nullable=False, comment="how many topics each log has, the first included"
        ),
        sa.Column(
            "logs",
            sa.Integer(),
            sa.Computed("cardinality(addresses)", persisted=True),
            nullable=False,
            comment="how many there are",
        ),
        sa.Column(
            "addresses", sa.ARRAY(sa.LargeBinary()), nullable=False, comment="of the contract of each log, 20 bytes"
        ),
        sa.ForeignKeyConstraint(["event_id"], ["gapless.events.id"], ondelete="CASCADE"),
        schema="gapless",
        comment=(
            "Logs of an event's signature that another declaration's indexed arguments explain, counted and not kept"
        ),
    )
    op.create_index(
        "foreign_shapes_addresses",
        "foreign_shapes",
        ["addresses"],
        unique=False,
        schema="gapless",
        postgresql_using="gin",
        postgresql_with={"fastupdate": "off"},
    )
    op.create_index(
        "foreign_shapes_block",
        "foreign_shapes",
        ["event_id", "chain_id", "block_number"],
        unique=False,
        schema="gapless",
    )
    op.create_table(
        "orphans",
        sa.Column("chain_id", sa.BigInteger(), nullable=False),
        sa.Column("number", sa.BigInteger(), nullable=False),
        sa.Column("hash", sa.LargeBinary(), nullable=False),
        sa.Column("reorg_id", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(
            ["reorg_id"],
            ["gapless.reorgs.id"],
        ),
        sa.PrimaryKeyConstraint("chain_id", "number", "hash", "reorg_id"),
        schema="gapless",
        comment=(
            "Blocks that were indexed and then reorganised away; kept for good, so that old cursors can be judged"
        ),
    )
    op.create_table(
        "series_points",
        sa.Column("series_id", sa.Integer(), nullable=False),
        sa.Column("chain_id", sa.BigInteger(), nullable=False),
        sa.Column("block_number", sa.BigInteger(), nullable=False),
        sa.Column("block_hash", sa.LargeBinary(), nullable=False),
        sa.Column("taken_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column(
            "asked_again_at",
            sa.DateTime(timezone=True),
            nullable=True,
            comment="when calls that no node would run are asked again; null: there are none",
        ),
        sa.Column("attempts", sa.SmallInteger(), server_default="1", nullable=False),
        sa.ForeignKeyConstraint(["series_id"], ["gapless.series.id"], ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("series_id", "chain_id", "block_number"),
        schema="gapless",
        comment="The blocks at which a series was read",
    )
    op.create_index(
        "series_points_asked_again",
        "series_points",
        ["series_id", "chain_id"],
        unique=False,
        schema="gapless",
        postgresql_where=sa.text("asked_again_at IS NOT NULL"),
    )
    op.create_index(
        "series_points_block", "series_points", ["chain_id", "block_number"], unique=False, schema="gapless"
    )
    op.create_table(
        "sources",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("chain_id", sa.BigInteger(), nullable=False),
        sa.Column("event_id", sa.Integer(), nullable=False),
        sa.Column(
            "place",
            postgresql.JSONB(),
            nullable=False,
            comment="where: {kind, addresses | factory, filters}; disjoint per event",
        ),
        sa.Column("start_block", sa.BigInteger(), nullable=False),
        sa.Column("end_block", sa.BigInteger(), nullable=True),
        sa.Column(
            "coverage",
            postgresql.INT8MULTIRANGE(),
            server_default=sa.text("'{}'::int8multirange"),
            nullable=False,
            comment=(
                "indexed blocks; open at its end: followed, up to the chain's tip_number (gapless.covered says it)"
            ),
        ),
        sa.Column(
            "verified", postgresql.INT8MULTIRANGE(), server_default=sa.text("'{}'::int8multirange"), nullable=False
        ),
        sa.Column("active", sa.Boolean(), server_default=sa.text("true"), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column(
            "followed",
            sa.Boolean(),
            sa.Computed("upper_inf(coverage)", persisted=True),
            nullable=False,
            comment="true: new blocks are covered as the chain's tip_number moves",
        ),
        sa.ForeignKeyConstraint(
            ["chain_id"],
            ["gapless.chains.chain_id"],
        ),
        sa.ForeignKeyConstraint(["event_id"], ["gapless.events.id"], ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("id"),
        schema="gapless",
        comment="chain x contract x event x where: the unit whose coverage is tracked",
    )
    op.create_index("sources_chain", "sources", ["chain_id"], unique=False, schema="gapless")
    op.create_index("sources_event", "sources", ["event_id"], unique=False, schema="gapless")
    op.create_table(
        "undecoded_logs",
        sa.Column("event_id", sa.Integer(), nullable=False),
        sa.Column("chain_id", sa.BigInteger(), nullable=False),
        sa.Column("block_number", sa.BigInteger(), nullable=False),
        sa.Column("log_index", sa.BigInteger(), nullable=False),
        sa.Column("block_time", sa.DateTime(timezone=True), nullable=False),
        sa.Column("tx_hash", sa.LargeBinary(), nullable=False),
        sa.Column("tx_index", sa.BigInteger(), nullable=False),
        sa.Column("contract_address", sa.LargeBinary(), nullable=False),
        sa.Column("topics", sa.ARRAY(sa.LargeBinary()), nullable=False),
        sa.Column("data", sa.LargeBinary(), nullable=False),
        sa.Column("reason", sa.String(), nullable=False),
        sa.Column(
            "has_row", sa.Boolean(), nullable=False, comment="true: the row is in the table, with a text altered"
        ),
        sa.Column(
            "announced",
            postgresql.JSONB(),
            nullable=True,
            comment="addresses in a row that Postgres refused, by column",
        ),
        sa.ForeignKeyConstraint(["event_id"], ["gapless.events.id"], ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("event_id", "chain_id", "block_number", "log_index"),
        schema="gapless",
        comment="Logs that bear an event's topic but not its shape, raw, each with the reason",
    )
    op.create_index(
        "undecoded_logs_address",
        "undecoded_logs",
        ["contract_address", "event_id", "chain_id", "block_number"],
        unique=False,
        schema="gapless",
        postgresql_where=sa.text("NOT has_row"),
    )
    op.create_table(
        "unfinalized_rows",
        sa.Column("chain_id", sa.BigInteger(), nullable=False),
        sa.Column("block_number", sa.BigInteger(), nullable=False),
        sa.Column("event_id", sa.Integer(), nullable=False),
        sa.ForeignKeyConstraint(["event_id"], ["gapless.events.id"], ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("chain_id", "block_number", "event_id"),
        schema="gapless",
        comment="Which events have rows or undecoded logs in blocks that can still be reorganised",
    )
    op.create_table(
        "webhook_deliveries",
        sa.Column("id", sa.BigInteger(), nullable=False),
        sa.Column("webhook_id", sa.String(), nullable=False),
        sa.Column("message_id", sa.String(), nullable=False),
        sa.Column("message_type", sa.String(), nullable=False),
        sa.Column("attempt", sa.Integer(), nullable=False, comment="1 is the first"),
        sa.Column("at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("status", sa.Integer(), nullable=True, comment="of the answer; null: there was none"),
        sa.Column("error", sa.String(), nullable=True, comment="why there was no answer"),
        sa.Column("answer", sa.String(), nullable=True, comment="its first bytes"),
        sa.Column("milliseconds", sa.Integer(), nullable=False),
        sa.Column("bytes", sa.Integer(), nullable=False, comment="of the message"),
        sa.ForeignKeyConstraint(["webhook_id"], ["gapless.webhooks.id"], ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("id"),
        schema="gapless",
        comment="Attempts to deliver messages, kept for some days",
    )
    op.create_index("webhook_deliveries_at_idx", "webhook_deliveries", ["at"], unique=False, schema="gapless")
    op.create_index(
        "webhook_deliveries_webhook_id_idx", "webhook_deliveries", ["webhook_id", "id"], unique=False, schema="gapless"
    )
    op.create_table(
        "digests",
        sa.Column("source_id", sa.Integer(), nullable=False),
        sa.Column("first_block", sa.BigInteger(), nullable=False),
        sa.Column("last_block", sa.BigInteger(), nullable=False),
        sa.Column("rows", sa.BigInteger(), nullable=False),
        sa.Column(
            "digest",
            sa.Numeric(),
            nullable=False,
            comment="sum of hash_record_extended over the rows: no order, additive",
        ),
        sa.Column(
            "method",
            sa.String(),
            server_default="",
            nullable=False,
            comment="Postgres' major version and the layout's: another one hashes otherwise",
        ),
        sa.ForeignKeyConstraint(["source_id"], ["gapless.sources.id"], ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("source_id", "first_block"),
        schema="gapless",
        comment=("What the rows of a covered range summed up to when they were written; disjoint, within coverage"),
    )
    op.create_table(
        "failed_ranges",
        sa.Column("source_id", sa.Integer(), nullable=False),
        sa.Column("first_block", sa.BigInteger(), nullable=False),
        sa.Column("last_block", sa.BigInteger(), nullable=False),
        sa.Column("reason", sa.String(), nullable=False, comment="what the nodes said, for people"),
        sa.Column("failures", sa.BigInteger(), server_default="1", nullable=False, comment="how often in a row"),
        sa.Column("failed_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("retry_at", sa.DateTime(timezone=True), nullable=False, comment="not asked for again before"),
        sa.ForeignKeyConstraint(["source_id"], ["gapless.sources.id"], ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("source_id", "first_block"),
        schema="gapless",
        comment="Blocks of history that could not be fetched lately, and when they are asked for again",
    )
    op.create_table(
        "findings",
        sa.Column("id", sa.BigInteger(), nullable=False),
        sa.Column("chain_id", sa.BigInteger(), nullable=False),
        sa.Column("event_id", sa.Integer(), nullable=True, comment="null: the chain as a whole is concerned"),
        sa.Column("source_id", sa.Integer(), nullable=True, comment="null: rows that belong to no source"),
        sa.Column(
            "kind",
            sa.String(),
            nullable=False,
            comment="gap, outside, duplicate, dangling, child, digest, balance, against or proof",
        ),
        sa.Column("first_block", sa.BigInteger(), nullable=False),
        sa.Column("last_block", sa.BigInteger(), nullable=False),
        sa.Column("count", sa.BigInteger(), nullable=False, comment="rows or blocks that are concerned"),
        sa.Column("detail", sa.String(), nullable=False, comment="what is wrong, for people"),
        sa.Column("found_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("repaired_at", sa.DateTime(timezone=True), nullable=True, comment="null: not yet"),
        sa.ForeignKeyConstraint(
            ["chain_id"],
            ["gapless.chains.chain_id"],
        ),
        sa.ForeignKeyConstraint(["event_id"], ["gapless.events.id"], ondelete="CASCADE"),
        sa.ForeignKeyConstraint(["source_id"], ["gapless.sources.id"], ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("id"),
        schema="gapless",
        comment="What audits found wrong, until it is repaired",
    )
    op.create_index("findings_chain", "findings", ["chain_id", "id"], unique=False, schema="gapless")
    op.execute("INSERT INTO gapless.catalog (id, version) VALUES (1, 0)")
    op.execute("""
        INSERT INTO gapless.cache_secret (id, secret)
        SELECT 1, decode(replace(gen_random_uuid()::text || gen_random_uuid()::text, '-', ''), 'hex')
    """)
    # Every change of an amount leaves a dead row and three dead index entries behind.
    op.execute("ALTER TABLE gapless.holdings SET (autovacuum_vacuum_scale_factor = 0.05)")
    for statement in (_COVERED, _CLOSE, _MARK, *_TRIGGERS, _PROBLEM, _BALANCES):
        op.execute(statement)
    op.execute(
        "COMMENT ON FUNCTION gapless.covered IS "
        "'The blocks that a source covers, given its coverage and end_block and its chain''s tip_number'"
    )
    op.execute("COMMENT ON VIEW gapless.balances IS 'Who has how much of what, and the block at which that is true'")
    for name, comment in _BALANCES_COLUMNS.items():
        op.execute(f"COMMENT ON COLUMN gapless.balances.{name} IS '{comment}'")


def downgrade() -> None:
    raise NotImplementedError("there is nothing before the first release: drop the schema gapless")
