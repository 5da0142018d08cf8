"""A followed source's coverage is open at its end; which events have rows that can still be reorganised

Revision ID: 0014
Revises: 0013
"""

import sqlalchemy as sa
from alembic import op

revision = "0014"
down_revision = "0013"
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

_COVERAGE = "indexed blocks; open at its end: followed, up to the chain's tip_number (gapless.covered says it)"
_VERSION = "+1 with rows or coverage that history gets; new rows of the head show in the chain's tip"


def upgrade() -> None:
    op.add_column(
        "chains",
        sa.Column("followed_mark", sa.BigInteger(), comment="another one each time that other sources are followed"),
        schema="gapless",
    )
    op.add_column(
        "chains",
        sa.Column("noted_above", sa.BigInteger(), comment="all rows above this block are in unfinalized_rows"),
        schema="gapless",
    )
    op.add_column(
        "chains",
        sa.Column("noted_epoch", sa.BigInteger(), comment="the follower_epoch whose follower said so last"),
        schema="gapless",
    )
    op.add_column(
        "sources",
        sa.Column(
            "followed",
            sa.Boolean(),
            sa.Computed("upper_inf(coverage)", persisted=True),
            nullable=False,
            comment="true: new blocks are covered as the chain's tip_number moves",
        ),
        schema="gapless",
    )
    op.alter_column("sources", "coverage", comment=_COVERAGE, existing_comment=None, schema="gapless")
    op.alter_column(
        "events",
        "version",
        comment=_VERSION,
        existing_comment="+1 in every transaction that adds rows",
        schema="gapless",
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
    op.create_index("series_points_block", "series_points", ["chain_id", "block_number"], schema="gapless")
    op.create_index("tokens_block", "tokens", ["chain_id", "block_number"], schema="gapless")
    for statement in (_COVERED, _CLOSE, _MARK, *_TRIGGERS):
        op.execute(statement)
    op.execute(
        "COMMENT ON FUNCTION gapless.covered IS "
        "'The blocks that a source covers, given its coverage and end_block and its chain''s tip_number'"
    )


def downgrade() -> None:
    op.execute(
        "UPDATE gapless.sources s SET coverage = gapless.covered(s.coverage, s.end_block, n.tip_number) "
        "FROM gapless.chains n WHERE n.chain_id = s.chain_id AND s.followed"
    )
    for name in ("close_new", "close_changed", "mark_new", "mark_changed", "mark_gone"):
        op.execute(f"DROP TRIGGER sources_{name} ON gapless.sources")
    for name in ("mark_followed", "close_coverage", "covered"):
        op.execute(f"DROP FUNCTION gapless.{name}")
    op.drop_index("tokens_block", "tokens", schema="gapless")
    op.drop_index("series_points_block", "series_points", schema="gapless")
    op.drop_table("unfinalized_rows", schema="gapless")
    op.alter_column(
        "events",
        "version",
        comment="+1 in every transaction that adds rows",
        existing_comment=_VERSION,
        schema="gapless",
    )
    op.alter_column("sources", "coverage", comment=None, existing_comment=_COVERAGE, schema="gapless")
    op.drop_column("sources", "followed", schema="gapless")
    for name in ("noted_epoch", "noted_above", "followed_mark"):
        op.drop_column("chains", name, schema="gapless")
