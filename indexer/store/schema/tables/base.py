"""What all static tables share: the schema, its metadata, and columns and defaults that many of them have."""

from sqlalchemy import Column, DateTime, MetaData, text

SCHEMA = "gapless"

metadata = MetaData(schema=SCHEMA)

#: Defaults that Postgres fills in.
NO_BLOCKS = text("'{}'::int8multirange")
NO_NAMES = text("'{}'::varchar[]")


def timestamp(name: str, *, nullable: bool = True, default: bool = False, comment: str | None = None) -> Column[object]:
    """A column with a point in time; with ``default``, that of the transaction that adds the row."""
    return Column(
        name,
        DateTime(timezone=True),
        nullable=nullable,
        server_default=text("now()") if default else None,
        comment=comment,
    )
