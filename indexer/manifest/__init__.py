"""The manifest: ``indexer.toml``, read, checked and made into frozen descriptions of what to index.

All mistakes are told at once, each with its line.

* ``load``: the way in; also which contracts are tokens. ``chains``, ``contracts``, ``log_scopes``, ``snapshots``,
  ``derived``, ``programs``: its parts, checked.
* ``source``, ``document``: the TOML as written: read, each line found, each value understood, all problems told.
* ``model``: what the program uses; the same with ``start_block = "auto"`` found out.
"""

from indexer.manifest.load import ManifestErrors, load_manifest

__all__ = ["ManifestErrors", "load_manifest"]
