"""Derived tables: what follows from events by a rule of the manifest, and how far it is counted.

The rows themselves are in the schema ``derived``: one table for each stored generation, and under the plain name a view
of the one that is served.
"""

from sqlalchemy import (
    ARRAY,
    BigInteger,
    Boolean,
    Column,
    ForeignKey,
    Index,
    Integer,
    PrimaryKeyConstraint,
    String,
    Table,
    UniqueConstraint,
    text,
)
from sqlalchemy.dialects.postgresql import INT8MULTIRANGE, JSONB

from indexer.store.schema.tables.chain import NO_BLOCKS, NO_NAMES, metadata, timestamp

NO_IDS = text("'{}'::integer[]")

derived = Table(
    "derived",
    metadata,
    Column("id", Integer, primary_key=True, comment="number of the generation"),
    Column("name", String, nullable=False, comment="name in the manifest; derived.<name> shows what is served"),
    Column("kind", String, nullable=False, comment="rows, aggregate, view or program"),
    Column("generation", Integer, nullable=False, comment="counts the builds of one name, from 1"),
    Column(
        "definition", JSONB, nullable=False, comment="the rule, complete: with another one, rows mean something else"
    ),
    Column("table_name", String, comment="in the schema derived: its table; null: nothing is stored"),
    Column("columns", JSONB, nullable=False, comment="[{name, type, comment}] in order, as they are served"),
    Column("key", ARRAY(String), nullable=False, server_default=NO_NAMES, comment="columns that no two rows share"),
    Column("indexes", JSONB, nullable=False, server_default=text("'[]'"), comment="lists of columns with an index"),
    Column(
        "event_ids",
        ARRAY(Integer),
        nullable=False,
        server_default=NO_IDS,
        comment="the events whose rows it counts, gapless.events.id",
    ),
    Column(
        "lookup_ids",
        ARRAY(Integer),
        nullable=False,
        server_default=NO_IDS,
        comment="the events that it looks up, gapless.events.id",
    ),
    Column("active", Boolean, nullable=False, server_default=text("true"), comment="still counted further"),
    Column("served", Boolean, nullable=False, server_default=text("false"), comment="shown as derived.<name>"),
    Column("remark", String, comment="why it is stale, for people; null: it is what the manifest asks for"),
    timestamp("created_at", nullable=False, default=True, comment="when the row was added"),
    UniqueConstraint("name", "generation"),
    Index("derived_served", "name", unique=True, postgresql_where=text("served")),
    comment="A generation of a derived table: one build of one rule",
)

derived_progress = Table(
    "derived_progress",
    metadata,
    Column(
        "derived_id",
        Integer,
        ForeignKey(derived.c.id, ondelete="CASCADE"),
        nullable=False,
        comment="the generation, gapless.derived.id",
    ),
    Column("chain_id", BigInteger, nullable=False, comment="EIP-155 chain id"),
    Column(
        "coverage",
        INT8MULTIRANGE,
        nullable=False,
        server_default=NO_BLOCKS,
        comment="blocks whose input rows are counted in it",
    ),
    Column("version", BigInteger, nullable=False, server_default="0", comment="+1 with every change of its rows"),
    Column("problem", String, comment="why it is not counted further, for people; null: it is"),
    Column("problem_block", BigInteger, comment="the block at which that happened"),
    timestamp("updated_at", nullable=False, default=True, comment="when the row was changed last"),
    PrimaryKeyConstraint("derived_id", "chain_id"),
    comment="How far a generation of a derived table is counted on one chain; its row locks them there",
)
