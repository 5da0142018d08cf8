"""A report as JSON: for ``gapless audit --json``, and for audits that were asked for through the API."""

from collections.abc import Sequence
from typing import Any

from indexer.store.integrity.findings import Finding
from indexer.sync.audit.run import Report


def report_as_json(chain: str, report: Report, most_findings: int | None = None) -> dict[str, Any]:
    """A report.

    Args:
        chain: the chain's name.
        report: of it.
        most_findings: show no more of them; None: all.
    """
    deep, other, digest, holders = report.deep, report.against, report.digest, report.holders
    return {
        "chain": chain,
        "blocks": report.scope.within,
        "looked_at": {contract: list(ranges) for contract, ranges in report.scope.looked_at().items()},
        "blocks_not_proven": report.unproven,
        "unsure": list(report.unsure),
        "findings": _findings(report.findings[:most_findings]),
        "digest": {"rows": digest.rows, "blocks_without": digest.without, "incomparable": digest.incomparable},
        "against": None if other is None else {"blocks": other.blocks, "logs": other.logs},
        "balances": None
        if holders is None
        else {
            "compared": holders.compared,
            "marked": [
                {"contract": mark.contract, "token": f"0x{mark.token.hex()}", "detail": mark.detail}
                for mark in holders.marked
            ],
            "not_compared": holders.unasked,
        },
        "proof": None
        if deep is None
        else {
            "blocks": deep.proven,
            "logs": deep.logs,
            "links": deep.links,
            "before": report.proven_before,
            "not_provable": dict(deep.unproven),
        },
    }


def _findings(found: Sequence[Finding]) -> list[dict[str, Any]]:
    return [
        {
            "id": finding.finding_id,
            "kind": finding.kind,
            "subject": finding.label,
            "first_block": finding.first,
            "last_block": finding.last,
            "count": finding.count,
            "detail": finding.detail,
        }
        for finding in found
    ]
