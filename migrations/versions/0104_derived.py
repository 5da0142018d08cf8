"""Derived tables: the catalog of what follows from events, and the schema for their rows

Revision ID: 0104
Revises: 0103
"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0104"
down_revision = "0103"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.execute("CREATE SCHEMA derived")
    op.execute("COMMENT ON SCHEMA derived IS 'What follows from events by the rules of the manifest: one view each'")
    names, ids = sa.text("'{}'::varchar[]"), sa.text("'{}'::integer[]")
    op.create_table(
        "derived",
        sa.Column("id", sa.Integer(), nullable=False, comment="number of the generation"),
        sa.Column(
            "name", sa.String(), nullable=False, comment="name in the manifest; derived.<name> shows what is served"
        ),
        sa.Column("kind", sa.String(), nullable=False, comment="rows, aggregate, view or program"),
        sa.Column("generation", sa.Integer(), nullable=False, comment="counts the builds of one name, from 1"),
        sa.Column(
            "definition",
            postgresql.JSONB(),
            nullable=False,
            comment="the rule, complete: with another one, rows mean something else",
        ),
        sa.Column("table_name", sa.String(), comment="in the schema derived: its table; null: nothing is stored"),
        sa.Column(
            "columns",
            postgresql.JSONB(),
            nullable=False,
            comment="[{name, type, comment}] in order, as they are served",
        ),
        sa.Column(
            "key",
            postgresql.ARRAY(sa.String()),
            nullable=False,
            server_default=names,
            comment="columns that no two rows share",
        ),
        sa.Column(
            "indexes",
            postgresql.JSONB(),
            nullable=False,
            server_default=sa.text("'[]'"),
            comment="lists of columns with an index",
        ),
        sa.Column(
            "event_ids",
            postgresql.ARRAY(sa.Integer()),
            nullable=False,
            server_default=ids,
            comment="the events whose rows it counts, gapless.events.id",
        ),
        sa.Column(
            "lookup_ids",
            postgresql.ARRAY(sa.Integer()),
            nullable=False,
            server_default=ids,
            comment="the events that it looks up, gapless.events.id",
        ),
        sa.Column(
            "active", sa.Boolean(), nullable=False, server_default=sa.text("true"), comment="still counted further"
        ),
        sa.Column(
            "served", sa.Boolean(), nullable=False, server_default=sa.text("false"), comment="shown as derived.<name>"
        ),
        sa.Column("remark", sa.String(), comment="why it is stale, for people; null: it is what the manifest asks for"),
        sa.Column(
            "created_at",
            sa.DateTime(timezone=True),
            nullable=False,
            server_default=sa.text("now()"),
            comment="when the row was added",
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_derived")),
        sa.UniqueConstraint("name", "generation", name=op.f("uq_derived_name")),
        schema="gapless",
        comment="A generation of a derived table: one build of one rule",
    )
    op.create_index(
        "derived_served", "derived", ["name"], unique=True, schema="gapless", postgresql_where=sa.text("served")
    )
    op.create_table(
        "derived_progress",
        sa.Column("derived_id", sa.Integer(), nullable=False, comment="the generation, gapless.derived.id"),
        sa.Column("chain_id", sa.BigInteger(), nullable=False, comment="EIP-155 chain id"),
        sa.Column(
            "coverage",
            postgresql.INT8MULTIRANGE(),
            nullable=False,
            server_default=sa.text("'{}'::int8multirange"),
            comment="blocks whose input rows are counted in it",
        ),
        sa.Column(
            "version", sa.BigInteger(), nullable=False, server_default="0", comment="+1 with every change of its rows"
        ),
        sa.Column("problem", sa.String(), comment="why it is not counted further, for people; null: it is"),
        sa.Column("problem_block", sa.BigInteger(), comment="the block at which that happened"),
        sa.Column(
            "updated_at",
            sa.DateTime(timezone=True),
            nullable=False,
            server_default=sa.text("now()"),
            comment="when the row was changed last",
        ),
        sa.ForeignKeyConstraint(
            ["derived_id"],
            ["gapless.derived.id"],
            name=op.f("fk_derived_progress_derived_id_derived"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("derived_id", "chain_id", name=op.f("pk_derived_progress")),
        schema="gapless",
        comment="How far a generation of a derived table is counted on one chain; its row locks them there",
    )


def downgrade() -> None:
    op.execute("DROP SCHEMA derived CASCADE")
    op.drop_table("derived_progress", schema="gapless")
    op.drop_table("derived", schema="gapless")
