"""How far a chain's old blocks were thinned out; words for the view of balances

Revision ID: 0009
Revises: 0008
"""

import sqlalchemy as sa
from alembic import op

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None

_BALANCES = {
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


def upgrade() -> None:
    op.add_column(
        "chains",
        sa.Column(
            "thinned_number",
            sa.BigInteger(),
            nullable=True,
            comment="up to here blocks that bore no log were thinned out",
        ),
        schema="gapless",
    )
    op.create_table_comment(
        "blocks",
        "Blocks that bore a log, ends of chunks, all above finalized, and some of those followed before",
        existing_comment="Blocks that bore a log, ends of chunks, and all above finalized that the reorg check needs",
        schema="gapless",
    )
    op.execute("COMMENT ON SCHEMA gapless IS 'What is indexed, how far, and what is known of chains and tokens'")
    for name, comment in _BALANCES.items():
        op.execute(f"COMMENT ON COLUMN gapless.balances.{name} IS '{comment}'")


def downgrade() -> None:
    for name in _BALANCES:
        op.execute(f"COMMENT ON COLUMN gapless.balances.{name} IS NULL")
    op.execute("COMMENT ON SCHEMA gapless IS NULL")
    op.create_table_comment(
        "blocks",
        "Blocks that bore a log, ends of chunks, and all above finalized that the reorg check needs",
        schema="gapless",
    )
    op.drop_column("chains", "thinned_number", schema="gapless")
