"""Which programs of a manifest are to run, and on which chains."""

from indexer.manifest.model import Manifest
from indexer.programs.supervisor import ProgramTask


def program_tasks(manifest: Manifest) -> list[ProgramTask]:
    """What is to run of a manifest."""
    return [
        ProgramTask(one.name, one.path, tuple(manifest.chains[chain].chain_id for chain in one.chains), one.working_set)
        for one in manifest.programs.values()
        if one.chains
    ]
