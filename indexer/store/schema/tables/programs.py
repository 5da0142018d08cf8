"""Programs: Python code that keeps tables of its own, how far each has come, and what disturbs it."""

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
    text,
)
from sqlalchemy.dialects.postgresql import JSONB

from indexer.store.schema.tables.chain import metadata, timestamp

programs = Table(
    "programs",
    metadata,
    Column("id", Integer, primary_key=True, comment="number of the generation"),
    Column("name", String, nullable=False, comment="name in the manifest"),
    Column("chain_id", BigInteger, nullable=False, comment="EIP-155 chain id"),
    Column("code_hash", String, nullable=False, comment="SHA-256 of the code that handles its events"),
    Column("event_ids", ARRAY(Integer), nullable=False, comment="the events that it handles, ascending"),
    Column(
        "tables",
        JSONB,
        nullable=False,
        comment="[{name, stored_as, columns: [{name, pg_type, key, nullable, comment}]}], in the schema derived",
    ),
    Column("start_block", BigInteger, nullable=False, comment="first block that is handled"),
    Column("through_block", BigInteger, nullable=False, comment="its tables are true at the end of this block"),
    Column(
        "near",
        Boolean,
        nullable=False,
        server_default=text("false"),
        comment="it has come to the finalized block: it handles blocks that can be reorganised",
    ),
    Column("live", Boolean, nullable=False, comment="false: it goes no further"),
    Column("served", Boolean, nullable=False, comment="the one that is read; another one may be under way"),
    Column("remark", String, comment="why it is not live, or since when other code handles its events"),
    Column("problem", String, comment="why it stands still; null: it does not"),
    Column("problem_block", BigInteger, comment="the block that it stands before"),
    Column(
        "version",
        BigInteger,
        nullable=False,
        server_default="0",
        comment="+1 with every change of its tables or its writer",
    ),
    timestamp("updated_at", nullable=False, default=True, comment="when the row was last written"),
    Index("programs_live", "name", "chain_id", unique=True, postgresql_where=text("live")),
    Index("programs_served", "name", "chain_id", unique=True, postgresql_where=text("served")),
    comment="Tables that Python code keeps by handling the events of one chain, and how far they go",
)

program_disturbances = Table(
    "program_disturbances",
    metadata,
    Column("id", BigInteger, primary_key=True, comment="number of the change"),
    Column(
        "program_id",
        Integer,
        ForeignKey(programs.c.id, ondelete="CASCADE"),
        nullable=False,
        comment="the generation that is concerned, gapless.programs.id",
    ),
    Column("first_block", BigInteger, nullable=False, comment="first block whose rows may be others"),
    Column("reason", String, nullable=False, comment="what was changed, for people"),
    Index("program_disturbances_program", "program_id"),
    comment="Changes of rows that a program may have handled already, until it has seen them",
)

program_standstills = Table(
    "program_standstills",
    metadata,
    Column("name", String, nullable=False, comment="name in the manifest"),
    Column("chain_id", BigInteger, nullable=False, comment="EIP-155 chain id"),
    Column("problem", String, nullable=False, comment="why it stands still, for people"),
    timestamp("noted_at", nullable=False, default=True, comment="when that was noted"),
    PrimaryKeyConstraint("name", "chain_id"),
    comment="Programs that have no build which goes on, and why none begins",
)
