"""Tables of programs: what a replay of a program tells an audit, and having it built anew."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from sqlalchemy.engine import Connection

from indexer.store.integrity.findings import Finding
from indexer.store.programs import disturbances
from indexer.sync.audit.scope import AuditScope


@dataclass(slots=True)
class ProgramsCheck:
    """What became of it.

    Attributes:
        findings: the tables that are not what a replay gives.
        events: rows of events that were handled anew.
        rows: rows that were compared.
        told: by program, why it was not compared, or what else is to be known of it.
    """

    findings: list[Finding] = field(default_factory=list)
    events: int = 0
    rows: int = 0
    told: Mapping[str, str] = field(default_factory=dict)


CheckPrograms = Callable[[AuditScope], ProgramsCheck]
"""Replays the programs of an audit's scope; programs run in processes of their own, of which nothing is known here."""


def build_anew(connection: Connection, finding: Finding) -> None:
    """Has a program's tables built anew; what is served stays until the new build has come as far."""
    if finding.program_id is not None:
        reason = "an audit found rows that do not follow from its events"
        disturbances.note_of(connection, finding.program_id, finding.first, reason)
