"""The manifest: ``indexer.toml``, read, checked and made into frozen descriptions of what to index."""

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
