"""Balances at the ends of days

Revision ID: 0112
Revises: 0111
"""

from typing import Final

import sqlalchemy as sa
from alembic import op

revision = "0112"
down_revision = "0111"
branch_labels = None
depends_on = None

_HOLDER: Final = "the account, 20 bytes; gapless.hex shows it, gapless.addr('0x…') writes it"

# As it was, and as it is: several contracts of a manifest may count one token. One that is not kept any more, or has
# counted less, must not answer in place of another, nor one without the ends of days where those are wanted.
_LEDGER: Final = """
CREATE FUNCTION gapless.ledger_of(of_chain text, of_token bytea{argument}) RETURNS integer
LANGUAGE plpgsql STABLE STRICT PARALLEL SAFE AS $$
DECLARE
    number CONSTANT bigint := gapless.chain_id(of_chain);
    found integer;
BEGIN
    SELECT {which} INTO found FROM gapless.ledgers l
    WHERE l.served AND l.chain_id = number {condition} AND CASE l.place ->> 'kind'
        WHEN 'addresses' THEN l.place -> 'addresses' ? gapless.hex(of_token)
        WHEN 'factory' THEN EXISTS (
            SELECT FROM gapless.children h WHERE h.chain_id = number AND h.contract_id = l.contract_id
            AND h.address = of_token)
        ELSE true END{order};
    IF found IS NULL THEN
        RAISE EXCEPTION {what}, gapless.hex(of_token), of_chain
            USING ERRCODE = 'invalid_parameter_value', HINT = {hint};
    END IF;
    RETURN found;
END $$
"""
_NONE: Final = "'no balances are kept of the token % on %'"
_HINT: Final = "'The contract of the token must stand in [balances] of the manifest.'"
_LEDGER_BEFORE: Final = _LEDGER.format(argument="", which="min(l.id)", condition="", order="", what=_NONE, hint=_HINT)
_LEDGER_NOW: Final = _LEDGER.format(
    argument=", only_daily boolean DEFAULT false",
    which="l.id",
    condition="AND (l.daily OR NOT only_daily)",
    order="\n    ORDER BY l.live DESC, l.through_block DESC, l.start_block, l.id LIMIT 1",
    what="'no balances %are kept of the token % on %', CASE WHEN only_daily THEN 'at the ends of days ' ELSE '' END",
    hint=f"CASE WHEN only_daily THEN 'The contract of the token must stand in daily of [balances] of the manifest; '\n"
    f"                    'gapless.holders_at has any block.' ELSE {_HINT} END",
)
_LEDGER_COMMENT: Final = (
    "The ledger (gapless.ledgers.id) that counts a token (20 bytes) on a chain (name or id); an error where no "
    "balances are kept of it"
)

_VIEW: Final = """
CREATE OR REPLACE VIEW gapless.balance_daily AS
SELECT l.chain_id, c.name::text AS contract, l.kind::text AS kind, h.token, h.token_id, h.holder, h.day, h.change,
       h.amount,
       (SELECT min(n.day) FROM gapless.holdings_daily n
        WHERE n.ledger_id = h.ledger_id AND n.token = h.token AND n.token_id = h.token_id AND n.holder = h.holder
          AND n.day > h.day) AS next_day,
       l.through_block AS block_number, NOT l.live AS stale
FROM gapless.holdings_daily h
JOIN gapless.ledgers l ON l.id = h.ledger_id AND l.served
JOIN gapless.contracts c ON c.id = l.contract_id
"""

# A day's largest come from the index of amounts, in order: a row counts if none of the holder's lies between it and the
# day. The days up to the first and from the last are not counted, and have no rows.
_HOLDERS_BY_DAY: Final = """
CREATE OR REPLACE FUNCTION gapless.holders_by_day(of_chain text, of_token bytea, first_day date, last_day date,
                                                  most integer DEFAULT 10, of_id numeric DEFAULT 0)
RETURNS TABLE (day date, place bigint, holder bytea, amount numeric)
LANGUAGE plpgsql STABLE PARALLEL SAFE SET plan_cache_mode = force_custom_plan STRICT ROWS 1000 AS $$
DECLARE
    l gapless.ledgers;
    earliest date;
    latest date;
    number bigint;
BEGIN
    SELECT * INTO l FROM gapless.ledgers WHERE id = gapless.ledger_of(of_chain, of_token, true);
    SELECT gapless.day(b.time) INTO earliest FROM gapless.blocks b
    WHERE b.chain_id = l.chain_id AND b.number >= l.start_block ORDER BY b.number LIMIT 1;
    SELECT gapless.day(b.time) INTO latest FROM gapless.blocks b
    WHERE b.chain_id = l.chain_id AND b.number <= l.through_block ORDER BY b.number DESC LIMIT 1;
    day := greatest(first_day, earliest);
    WHILE day <= least(last_day, latest) LOOP
        number := 0;
        FOR holder, amount IN
            SELECT h.holder, h.amount FROM gapless.holdings_daily h
            WHERE h.ledger_id = l.id AND h.token = of_token AND h.token_id = of_id AND h.amount > 0
              AND h.day <= holders_by_day.day
              AND (SELECT n.day FROM gapless.holdings_daily n
                   WHERE n.ledger_id = l.id AND n.token = of_token AND n.token_id = of_id AND n.holder = h.holder
                     AND n.day > h.day AND n.day <= holders_by_day.day ORDER BY n.day LIMIT 1) IS NULL
            ORDER BY h.amount DESC, h.holder DESC LIMIT most
        LOOP
            number := number + 1;
            place := number;
            RETURN NEXT;
        END LOOP;
        day := day + 1;
    END LOOP;
END $$
"""

_SIGNATURE: Final = "holders_by_day(text, bytea, date, date, integer, numeric)"
_LEDGER_SIGNATURES: Final = ("ledger_of(text, bytea)", "ledger_of(text, bytea, boolean)")
_FUNCTION_COMMENT: Final = (
    "The largest holders of a token (20 bytes) at the end of each day (UTC): chain (name or id), token, first day, "
    "last day, how many a day, token_id (0 for ERC-20). Days that are not counted have no rows"
)
_VIEW_COMMENT: Final = (
    "Balances at the ends of days (UTC), where [balances] of the manifest names the contract in daily: a row for each "
    "day on which a holder's amount changed"
)
_COLUMNS: Final = {
    "chain_id": "EIP-155 chain id",
    "contract": "name in the manifest of the contract whose transfers were counted",
    "kind": "erc20, erc721 or erc1155",
    "token": "the token's contract, 20 bytes",
    "token_id": "0 for ERC-20",
    "holder": _HOLDER,
    "day": "the day (UTC)",
    "change": "what the day added, less what it took; never 0",
    "amount": "at the day's end, in the token's smallest unit; 0: nothing was left",
    "next_day": "the holder's next day with a change: until the day before, it has this amount; null: to this day",
    "block_number": "true at the end of this block: its day is not over yet",
    "stale": "true: counted no further than block_number (gapless.ledgers says why)",
}


def _run(statement: str) -> None:
    op.get_bind().exec_driver_sql(statement.replace("%", "%%"))


def _say(of: str, comment: str) -> None:
    _run(f"COMMENT ON {of} IS '" + comment.replace("'", "''") + "'")


def upgrade() -> None:
    op.add_column(
        "ledgers",
        sa.Column(
            "daily",
            sa.Boolean(),
            nullable=False,
            server_default=sa.text("false"),
            comment="whether holdings_daily has its balances at the ends of days",
        ),
        schema="gapless",
    )
    op.create_table(
        "holdings_daily",
        sa.Column("ledger_id", sa.Integer(), nullable=False, comment="the ledger, gapless.ledgers.id"),
        sa.Column("token", sa.LargeBinary(), nullable=False, comment="the token's contract, 20 bytes"),
        sa.Column("token_id", sa.Numeric(78, 0), nullable=False, comment="0 for ERC-20"),
        sa.Column("holder", sa.LargeBinary(), nullable=False, comment=_HOLDER),
        sa.Column("day", sa.Date(), nullable=False, comment="the day (UTC)"),
        sa.Column("change", sa.Numeric(), nullable=False, comment="what the day added, less what it took; never 0"),
        sa.Column(
            "amount", sa.Numeric(), nullable=False, comment="at its end, in the token's smallest unit; 1 for ERC-721"
        ),
        sa.PrimaryKeyConstraint("ledger_id", "token", "token_id", "holder", "day"),
        schema="gapless",
        comment="Who had how much of what at the ends of days, a row for each day with a change (see balance_daily)",
    )
    op.create_index(
        "holdings_daily_top",
        "holdings_daily",
        ["ledger_id", "token", "token_id", "amount", "holder", "day"],
        schema="gapless",
    )
    op.create_index(
        "holdings_daily_day",
        "holdings_daily",
        ["day"],
        schema="gapless",
        postgresql_using="brin",
        postgresql_with={"autosummarize": "on"},
    )
    op.create_index(
        "holdings_daily_unchanged",
        "holdings_daily",
        ["ledger_id"],
        schema="gapless",
        postgresql_where=sa.text("change = 0"),
    )
    op.execute("ALTER TABLE gapless.holdings_daily SET (autovacuum_vacuum_scale_factor = 0.05)")
    _run(f"DROP FUNCTION gapless.{_LEDGER_SIGNATURES[0]}")
    _run(_LEDGER_NOW)
    _say(f"FUNCTION gapless.{_LEDGER_SIGNATURES[1]}", f"{_LEDGER_COMMENT}; with true: one that keeps the ends of days")
    _run(_VIEW)
    _run(_HOLDERS_BY_DAY)
    _say(f"FUNCTION gapless.{_SIGNATURE}", _FUNCTION_COMMENT)
    _say("VIEW gapless.balance_daily", _VIEW_COMMENT)
    for name, text in _COLUMNS.items():
        _say(f"COLUMN gapless.balance_daily.{name}", text)


def downgrade() -> None:
    _run(f"DROP FUNCTION gapless.{_SIGNATURE}")
    _run("DROP VIEW gapless.balance_daily")
    _run(f"DROP FUNCTION gapless.{_LEDGER_SIGNATURES[1]}")
    _run(_LEDGER_BEFORE)
    _say(f"FUNCTION gapless.{_LEDGER_SIGNATURES[0]}", _LEDGER_COMMENT)
    op.drop_table("holdings_daily", schema="gapless")
    op.drop_column("ledgers", "daily", schema="gapless")
