"""Roles in Postgres with the least that each needs: the indexer, migrations, the API, analysts.

The indexer owns all tables: a changed manifest makes new ones, and views are made anew. Migrations act as the indexer.
The API reads everything and changes what its clients own. Analysts read rows, and no keys or secrets.
"""

import re
from typing import Final

import psycopg
from psycopg import sql

from indexer.errors import GaplessError

ROLES: Final = ("indexer", "migrator", "api", "analyst")
#: What the API changes, and how.
API_CHANGES: Final = {
    "api_keys": "INSERT, UPDATE",
    "jobs": "INSERT, UPDATE",
    "token_secrets": "INSERT, DELETE",
    "webhooks": "INSERT, UPDATE, DELETE",
    "webhook_deliveries": "INSERT, DELETE",
}
#: What analysts do not read: what signs and proves, the receivers of webhooks, what administrators asked for.
SECRET: Final = (*API_CHANGES, "cache_secret")

_PREFIX: Final = re.compile(r"[a-z][a-z0-9_]{0,40}")

_ROLE: Final = """
DO $$ BEGIN
    IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = '{role}') THEN CREATE ROLE {role} LOGIN; END IF;
END $$;
ALTER ROLE {role} NOSUPERUSER NOCREATEDB NOCREATEROLE NOREPLICATION NOBYPASSRLS;
GRANT CONNECT ON DATABASE {database} TO {role};
"""

_OWNER: Final = """
-- The indexer owns the tables and makes new ones.
GRANT CREATE, TEMPORARY ON DATABASE {database} TO {indexer};
-- Migrations act as the indexer.
GRANT {indexer} TO {migrator};
ALTER ROLE {migrator} IN DATABASE {database} SET role = '{indexer}';

-- What another role has made becomes the indexer's: the schema gapless, and the schemas of contracts.
DO $$
DECLARE it record; own text[] := ARRAY['gapless'];
BEGIN
    IF to_regclass('gapless.contracts') IS NOT NULL THEN
        SELECT own || coalesce(array_agg(DISTINCT schema_name::text), '{{}}') INTO own FROM gapless.contracts;
    END IF;
    FOR it IN SELECT nspname AS name FROM pg_namespace WHERE nspname = ANY (own) LOOP
        EXECUTE format('ALTER SCHEMA %I OWNER TO {indexer}', it.name);
    END LOOP;
    FOR it IN SELECT c.oid::regclass AS name FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
              WHERE n.nspname = ANY (own) AND c.relkind IN ('r', 'p', 'v', 'm') LOOP
        EXECUTE format('ALTER TABLE %s OWNER TO {indexer}', it.name);
    END LOOP;
    FOR it IN SELECT p.oid::regprocedure AS name FROM pg_proc p JOIN pg_namespace n ON n.oid = p.pronamespace
              WHERE n.nspname = ANY (own) LOOP
        EXECUTE format('ALTER ROUTINE %s OWNER TO {indexer}', it.name);
    END LOOP;
END $$;
"""

_READERS: Final = """
-- Readers: what is there, and what the indexer will make.
DO $$
DECLARE it record; own text[] := ARRAY['gapless'];
BEGIN
    IF to_regclass('gapless.contracts') IS NOT NULL THEN
        SELECT own || coalesce(array_agg(DISTINCT schema_name::text), '{{}}') INTO own FROM gapless.contracts;
    END IF;
    FOR it IN SELECT nspname AS name FROM pg_namespace WHERE nspname = ANY (own) LOOP
        EXECUTE format('GRANT USAGE ON SCHEMA %I TO {api}, {analyst}', it.name);
        EXECUTE format('GRANT SELECT ON ALL TABLES IN SCHEMA %I TO {api}, {analyst}', it.name);
    END LOOP;
END $$;
ALTER DEFAULT PRIVILEGES FOR ROLE {indexer} GRANT USAGE ON SCHEMAS TO {api}, {analyst};
ALTER DEFAULT PRIVILEGES FOR ROLE {indexer} GRANT SELECT ON TABLES TO {api}, {analyst};
"""

_TABLE: Final = """
DO $$
DECLARE it record;
BEGIN
    IF to_regclass('gapless.{table}') IS NULL THEN RETURN; END IF;
    REVOKE ALL ON gapless.{table} FROM {analyst};
    GRANT {changes} ON gapless.{table} TO {api};
    FOR it IN SELECT s.oid::regclass AS name FROM pg_class s JOIN pg_depend d ON d.objid = s.oid
              WHERE s.relkind = 'S' AND d.refobjid = 'gapless.{table}'::regclass LOOP
        EXECUTE format('GRANT USAGE ON SEQUENCE %s TO {api}', it.name);
    END LOOP;
END $$;
"""


def statements(prefix: str, database: str) -> str:
    """The SQL that makes the roles and their grants, to be run by a superuser; again after each migration.

    Args:
        prefix: what the names of the roles begin with.
        database: its name.

    Raises:
        GaplessError: the prefix is no beginning of a name.
    """
    if not _PREFIX.fullmatch(prefix):
        raise GaplessError(
            f"{prefix!r} is no prefix of roles", hint="use lower-case letters, digits and _: --prefix gapless"
        )
    names = {role: f"{prefix}_{role}" for role in ROLES}
    quoted = '"' + database.replace('"', '""') + '"'
    parts = [_ROLE.format(role=name, database=quoted) for name in names.values()]
    parts += [part.format(database=quoted, **names) for part in (_OWNER, _READERS)]
    parts.append("-- What the API changes; what analysts do not read.\n")
    for table in SECRET:
        parts.append(_TABLE.format(table=table, changes=API_CHANGES.get(table, "SELECT"), **names))
    return "".join(parts)


def apply(connection: psycopg.Connection[tuple[object, ...]], prefix: str, passwords: dict[str, str]) -> None:
    """Make the roles and their grants, in one transaction.

    Args:
        connection: of a superuser.
        prefix: as of :func:`statements`.
        passwords: by role, for those that are to have a new one. Postgres is sent a verifier, not the password.

    Raises:
        GaplessError: as :func:`statements`.
        psycopg.Error: the role that is connected may not do this.
    """
    with connection.transaction():
        connection.execute(statements(prefix, connection.info.dbname).encode())
        for role, password in passwords.items():
            name = f"{prefix}_{role}"
            verifier = connection.pgconn.encrypt_password(password.encode(), name.encode(), b"scram-sha-256")
            connection.execute(
                sql.SQL("ALTER ROLE {} PASSWORD {}").format(sql.Identifier(name), sql.Literal(verifier.decode()))
            )
