"""Roles in Postgres with the least that each needs: the indexer, migrations, the API, analysts.

The indexer owns all tables: a changed manifest makes new ones, and views are made anew. Migrations act as the indexer.
The API reads everything and changes what its clients own. Analysts read rows, and no keys or secrets.
"""

import logging
import re
from typing import Final

import psycopg
import sqlalchemy as sa
from psycopg import sql
from sqlalchemy.engine import Connection

from indexer.errors import GaplessError
from indexer.store.schema.tables.service import API_CHANGES, SECRET

log = logging.getLogger(__name__)

ROLES: Final = ("indexer", "migrator", "api", "analyst")
#: For an analyst's login: seconds that a statement may take, and that a transaction may wait for its client; sessions.
STATEMENT_SECONDS: Final = 300
IDLE_SECONDS: Final = 60
MOST_SESSIONS: Final = 20

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

-- What another role has made becomes the indexer's: the schemas gapless and derived, and the schemas of contracts.
DO $$
DECLARE it record; own text[] := ARRAY['gapless', 'derived'];
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
DECLARE it record; own text[] := ARRAY['gapless', 'derived'];
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

# A role may change its own settings, but not its own comment or connection limit: `end_overlong_sessions` finds
# analysts by the comment. What makes tables for them may end their sessions, as a member of the role.
_ANALYST: Final = """
-- Analysts: read-only sessions that end in time. `gapless run` ends those that have lifted their time-outs.
ALTER ROLE {analyst} CONNECTION LIMIT {sessions};
ALTER ROLE {analyst} SET default_transaction_read_only = on;
ALTER ROLE {analyst} SET statement_timeout = '{statement}s';
ALTER ROLE {analyst} SET idle_in_transaction_session_timeout = '{idle}s';
COMMENT ON ROLE {analyst} IS '{mark}';
"""
_MARK: Final = "Gapless analyst: reads what is public, in sessions whose statements and pauses gapless run ends in time"

_ANALYST_ALONE: Final = """
-- What is there, and what the owners of the schemas will make.
DO $$
DECLARE it record;
BEGIN
    IF to_regclass('gapless.contracts') IS NULL THEN
        RAISE EXCEPTION 'there are no tables of Gapless in this database: run gapless migrate first';
    END IF;
    FOR it IN SELECT n.nspname AS name, n.nspowner AS owner FROM pg_namespace n
              WHERE n.nspname IN ('gapless', 'derived') OR n.nspname IN (SELECT schema_name FROM gapless.contracts) LOOP
        EXECUTE format('GRANT USAGE ON SCHEMA %I TO {analyst}', it.name);
        EXECUTE format('GRANT SELECT ON ALL TABLES IN SCHEMA %I TO {analyst}', it.name);
    END LOOP;
    FOR it IN SELECT DISTINCT r.rolname AS name, r.rolsuper FROM pg_namespace n JOIN pg_roles r ON r.oid = n.nspowner
              WHERE n.nspname IN ('gapless', 'derived') OR n.nspname IN (SELECT schema_name FROM gapless.contracts) LOOP
        EXECUTE format('ALTER DEFAULT PRIVILEGES FOR ROLE %I GRANT USAGE ON SCHEMAS TO {analyst}', it.name);
        EXECUTE format('ALTER DEFAULT PRIVILEGES FOR ROLE %I GRANT SELECT ON TABLES TO {analyst}', it.name);
        IF NOT it.rolsuper THEN EXECUTE format('GRANT {analyst} TO %I', it.name); END IF;
    END LOOP;
END $$;
"""

_HIDDEN: Final = """
DO $$ BEGIN
    IF to_regclass('gapless.{table}') IS NOT NULL THEN REVOKE ALL ON gapless.{table} FROM {analyst}; END IF;
END $$;
"""

_TABLE: Final = """
DO $$
DECLARE it record;
BEGIN
    IF to_regclass('gapless.{table}') IS NULL THEN RETURN; END IF;
    GRANT {changes} ON gapless.{table} TO {api};
    FOR it IN SELECT s.oid::regclass AS name FROM pg_class s JOIN pg_depend d ON d.objid = s.oid
              WHERE s.relkind = 'S' AND d.refobjid = 'gapless.{table}'::regclass LOOP
        EXECUTE format('GRANT USAGE ON SEQUENCE %s TO {api}', it.name);
    END LOOP;
END $$;
"""


def statements(prefix: str, database: str, only: str | None = None) -> str:
    """The SQL that makes the roles and their grants, to be run by a superuser; again after each migration.

    Args:
        prefix: what the names of the roles begin with.
        database: its name.
        only: ``analyst``: that role alone, for the schemas and owners that there are; else all roles.

    Raises:
        GaplessError: the prefix is no beginning of a name, or ``only`` is another role.
    """
    if not _PREFIX.fullmatch(prefix):
        raise GaplessError(
            f"{prefix!r} is no prefix of roles", hint="use lower-case letters, digits and _: --prefix gapless"
        )
    if only not in (None, "analyst"):
        raise GaplessError(
            f"the role {only!r} is not made alone",
            hint="--role analyst makes that one; without --role all are made, since the others need each other",
        )
    names = {role: f"{prefix}_{role}" for role in ROLES}
    quoted = '"' + database.replace('"', '""') + '"'
    wanted = [only] if only else list(ROLES)
    parts = [_ROLE.format(role=names[role], database=quoted) for role in wanted]
    limits = {"statement": STATEMENT_SECONDS, "idle": IDLE_SECONDS, "sessions": MOST_SESSIONS, "mark": _MARK}
    parts.append(_ANALYST.format(**limits, **names))
    if only:
        parts.append(_ANALYST_ALONE.format(**names))
    else:
        parts += [part.format(database=quoted, **names) for part in (_OWNER, _READERS)]
        parts.append("-- What makes tables may end the sessions of those that read them.\n")
        parts.append(f"GRANT {names['analyst']} TO {names['indexer']};\n")
    parts.append("-- What the API changes; what analysts do not read.\n")
    for table in SECRET:
        if not only:
            parts.append(_TABLE.format(table=table, changes=API_CHANGES.get(table, "SELECT"), **names))
        parts.append(_HIDDEN.format(table=table, **names))
    return "".join(parts)


def apply(
    connection: psycopg.Connection[tuple[object, ...]], prefix: str, passwords: dict[str, str], only: str | None = None
) -> None:
    """Make the roles and their grants, in one transaction.

    Args:
        connection: of a superuser.
        prefix: as of :func:`statements`.
        passwords: by role, for those that are to have a new one. Postgres is sent a verifier, not the password.
        only: as of :func:`statements`.

    Raises:
        GaplessError: as :func:`statements`.
        psycopg.Error: the role that is connected may not do this.
    """
    with connection.transaction():
        connection.execute(statements(prefix, connection.info.dbname, only).encode())
        for role, password in passwords.items():
            name = f"{prefix}_{role}"
            verifier = connection.pgconn.encrypt_password(password.encode(), name.encode(), b"scram-sha-256")
            connection.execute(
                sql.SQL("ALTER ROLE {} PASSWORD {}").format(sql.Identifier(name), sql.Literal(verifier.decode()))
            )


_OVERLONG: Final = sa.text("""
    SELECT s.usename, s.state, count(pg_terminate_backend(s.pid)) AS ended
    FROM pg_stat_activity s
    WHERE s.datname = current_database() AND s.pid <> pg_backend_pid()
      AND shobj_description(s.usesysid, 'pg_authid') = :mark
      AND (s.state = 'active' AND s.query_start < clock_timestamp() - make_interval(secs => :statement)
           OR s.state LIKE 'idle in transaction%' AND s.state_change < clock_timestamp() - make_interval(secs => :idle))
    GROUP BY s.usename, s.state
""")


def end_overlong_sessions(
    connection: Connection, statement: float = STATEMENT_SECONDS * 1.1, idle: float = IDLE_SECONDS * 1.1
) -> int:
    """End analysts' sessions that Postgres should have ended: they have lifted their own time-outs.

    Args:
        connection: of the indexer, which is a member of the analysts' role, or of a superuser.
        statement: seconds for which a statement may work; more than Postgres' own limit, which has the better message.
        idle: seconds for which a transaction may wait for its client.

    Returns:
        How many sessions were ended.

    Raises:
        sqlalchemy.exc.DBAPIError: Postgres could not be asked, or the connection's role may not end them.
    """
    rows = connection.execute(_OVERLONG, {"mark": _MARK, "statement": statement, "idle": idle}).all()
    for row in rows:
        log.warning(
            "Postgres: %d sessions of the role %s were ended: they were %s for longer than an analyst's may be "
            "(%d s for a statement, %d s for a pause in a transaction)",
            *(row.ended, row.usename, row.state, statement, idle),
        )
    return sum(row.ended for row in rows)
