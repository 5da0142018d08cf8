"""The manifest: ``indexer.toml``, read, checked and made into frozen descriptions of what to index.

All mistakes are told at once, each with its line.

* ``source``, ``locate``, ``document``, ``values``, ``report``: the TOML as written: read, each line found, each value
  understood, all problems told.
* ``load``: the way in. ``chains``, ``contracts``, ``log_scopes``, ``filters``, ``snapshots``, ``tracking``, ``drafts``:
  its parts, checked.
* ``model``, ``start_blocks``: what the program uses; the same with ``start_block = "auto"`` found out.
"""

from indexer.manifest.load import ManifestErrors, load_manifest
from indexer.manifest.model import (
    Call,
    Chain,
    Contract,
    Deployment,
    Endpoint,
    Factory,
    Finality,
    Include,
    Manifest,
    Schedule,
    Snapshot,
    StartBlock,
    TopicFilter,
)

__all__ = [
    "Call",
    "Chain",
    "Contract",
    "Deployment",
    "Endpoint",
    "Factory",
    "Finality",
    "Include",
    "Manifest",
    "ManifestErrors",
    "Schedule",
    "Snapshot",
    "StartBlock",
    "TopicFilter",
    "load_manifest",
]
