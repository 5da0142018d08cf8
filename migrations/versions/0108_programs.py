"""Programs: tables that Python code keeps by handling events, and what changes their events below their position

Revision ID: 0108
Revises: 0107
"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0108"
down_revision = "0107"
branch_labels = None
depends_on = None

# Blocks that a source covers no longer, or that another source covers from now on, bear other rows than were handled.
_DISTURB = """
CREATE FUNCTION gapless.disturb_programs() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    changed gapless.sources := CASE WHEN TG_OP = 'DELETE' THEN OLD ELSE NEW END;
    since bigint;
    why text;
BEGIN
    IF TG_OP = 'INSERT' THEN
        since := NEW.start_block;
        why := 'other addresses, filters or blocks of it are wanted';
    ELSIF TG_OP = 'DELETE' THEN
        since := OLD.start_block;
        why := 'its rows were deleted';
    ELSIF (NEW.active, NEW.place, NEW.start_block) IS DISTINCT FROM (OLD.active, OLD.place, OLD.start_block) THEN
        since := least(NEW.start_block, OLD.start_block);
        why := 'other addresses, filters or blocks of it are wanted';
    ELSE
        SELECT lower(gapless.covered(OLD.coverage, OLD.end_block, n.tip_number) - NEW.coverage) INTO since
        FROM gapless.chains n WHERE n.chain_id = NEW.chain_id;
        why := 'blocks of it are not covered any more';
    END IF;
    IF since IS NULL THEN  -- it is only followed no longer
        RETURN NULL;
    END IF;
    INSERT INTO gapless.program_disturbances (program_id, first_block, reason)
    SELECT p.id, since, format('%s.%s from block %s on: %s', c.name, e.api_name, since, why)
    FROM gapless.programs p, gapless.events e JOIN gapless.contracts c ON c.id = e.contract_id
    WHERE p.live AND p.chain_id = changed.chain_id AND p.event_ids @> ARRAY[changed.event_id]
      AND e.id = changed.event_id;
    RETURN NULL;
END $$
"""

_COMMENT = """COMMENT ON FUNCTION gapless.disturb_programs() IS
    'Notes for programs from which block on the rows of a source are other ones than they handled'"""

_TRIGGERS = (
    """CREATE TRIGGER sources_disturb_new AFTER INSERT ON gapless.sources FOR EACH ROW
    WHEN (NEW.active) EXECUTE FUNCTION gapless.disturb_programs()""",
    """CREATE TRIGGER sources_disturb_changed AFTER UPDATE ON gapless.sources FOR EACH ROW
    WHEN ((NEW.active, NEW.place, NEW.start_block) IS DISTINCT FROM (OLD.active, OLD.place, OLD.start_block)
          OR NOT NEW.coverage @> OLD.coverage)
    EXECUTE FUNCTION gapless.disturb_programs()""",
    """CREATE TRIGGER sources_disturb_gone AFTER DELETE ON gapless.sources FOR EACH ROW
    EXECUTE FUNCTION gapless.disturb_programs()""",
)

# A view of the newest build of each program that is read. It is stale where what it shows does not follow from the
# rows of its events as they are, or where it does not go on.
_STATES = """
CREATE VIEW gapless.program_states AS
SELECT p.name, p.chain_id, p.through_block AS block_number,
       NOT p.live OR p.problem IS NOT NULL OR d.reason IS NOT NULL AS stale,
       coalesce(p.problem, d.reason, CASE WHEN NOT p.live THEN p.remark END)::varchar AS problem,
       n.through_block AS rebuilt_to,
       ARRAY(SELECT t ->> 'name' FROM jsonb_array_elements(p.tables) t) AS tables
FROM gapless.programs p
LEFT JOIN gapless.programs n ON n.name = p.name AND n.chain_id = p.chain_id AND n.live AND n.id <> p.id
LEFT JOIN LATERAL (
    SELECT o.reason FROM gapless.program_disturbances o
    WHERE o.program_id = p.id AND o.first_block <= p.through_block ORDER BY o.first_block, o.id LIMIT 1
) d ON true
WHERE p.served
"""

_STATES_COLUMNS = {
    "name": "name in the manifest",
    "chain_id": "EIP-155 chain id",
    "block_number": "its tables are true at the end of this block",
    "stale": "true: it goes no further, or rows that it handled were changed since (problem says why)",
    "problem": "why it is stale; null: it is not",
    "rebuilt_to": "how far the build has come that will take its place; null: there is none",
    "tables": "its tables, in the schema derived",
}


def upgrade() -> None:
    op.create_table(
        "programs",
        sa.Column("id", sa.Integer(), nullable=False, comment="number of the generation"),
        sa.Column("name", sa.String(), nullable=False, comment="name in the manifest"),
        sa.Column("chain_id", sa.BigInteger(), nullable=False, comment="EIP-155 chain id"),
        sa.Column("code_hash", sa.String(), nullable=False, comment="SHA-256 of the code that handles its events"),
        sa.Column("event_ids", sa.ARRAY(sa.Integer()), nullable=False, comment="the events that it handles, ascending"),
        sa.Column(
            "tables",
            postgresql.JSONB(),
            nullable=False,
            comment="[{name, stored_as, columns: [{name, pg_type, key, nullable, comment}]}], in the schema derived",
        ),
        sa.Column("start_block", sa.BigInteger(), nullable=False, comment="first block that is handled"),
        sa.Column(
            "through_block", sa.BigInteger(), nullable=False, comment="its tables are true at the end of this block"
        ),
        sa.Column(
            "near",
            sa.Boolean(),
            nullable=False,
            server_default=sa.text("false"),
            comment="it has come to the finalized block: it handles blocks that can be reorganised",
        ),
        sa.Column("live", sa.Boolean(), nullable=False, comment="false: it goes no further"),
        sa.Column("served", sa.Boolean(), nullable=False, comment="the one that is read; another one may be under way"),
        sa.Column("remark", sa.String(), comment="why it is not live, or since when other code handles its events"),
        sa.Column("problem", sa.String(), comment="why it stands still; null: it does not"),
        sa.Column("problem_block", sa.BigInteger(), comment="the block that it stands before"),
        sa.Column(
            "version",
            sa.BigInteger(),
            nullable=False,
            server_default="0",
            comment="+1 with every change of its tables or its writer",
        ),
        sa.Column(
            "updated_at",
            sa.DateTime(timezone=True),
            server_default=sa.text("now()"),
            nullable=False,
            comment="when the row was last written",
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_programs")),
        schema="gapless",
        comment="Tables that Python code keeps by handling the events of one chain, and how far they go",
    )
    op.create_index(
        "programs_live", "programs", ["name", "chain_id"], unique=True, schema="gapless",
        postgresql_where=sa.text("live"),
    )  # fmt: skip
    op.create_index(
        "programs_served", "programs", ["name", "chain_id"], unique=True, schema="gapless",
        postgresql_where=sa.text("served"),
    )  # fmt: skip
    op.create_table(
        "program_disturbances",
        sa.Column("id", sa.BigInteger(), nullable=False, comment="number of the change"),
        sa.Column(
            "program_id", sa.Integer(), nullable=False, comment="the generation that is concerned, gapless.programs.id"
        ),
        sa.Column("first_block", sa.BigInteger(), nullable=False, comment="first block whose rows may be others"),
        sa.Column("reason", sa.String(), nullable=False, comment="what was changed, for people"),
        sa.ForeignKeyConstraint(
            ["program_id"],
            ["gapless.programs.id"],
            name=op.f("fk_program_disturbances_program_id_programs"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_program_disturbances")),
        schema="gapless",
        comment="Changes of rows that a program may have handled already, until it has seen them",
    )
    op.create_index(
        "program_disturbances_program", "program_disturbances", ["program_id"], unique=False, schema="gapless"
    )
    for statement in (_DISTURB, _COMMENT, *_TRIGGERS, _STATES):
        op.execute(statement)
    op.execute(
        "COMMENT ON VIEW gapless.program_states IS 'Programs whose tables can be read, and how far they are true'"
    )
    for name, comment in _STATES_COLUMNS.items():
        op.execute(f"COMMENT ON COLUMN gapless.program_states.{name} IS '{comment}'")


def downgrade() -> None:
    for name in ("sources_disturb_new", "sources_disturb_changed", "sources_disturb_gone"):
        op.execute(f"DROP TRIGGER {name} ON gapless.sources")
    op.execute("DROP FUNCTION gapless.disturb_programs")
    op.execute("DROP VIEW gapless.program_states")
    op.drop_table("program_disturbances", schema="gapless")
    op.drop_table("programs", schema="gapless")
