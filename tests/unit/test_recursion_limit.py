"""A deeply nested answer is an error and no crash: in a process of its own, since the crash would take pytest along."""

import subprocess
import sys

import pytest


@pytest.mark.promise("S-12")
@pytest.mark.parametrize("module", ["indexer.chain.client", "indexer.sync.tokens.metadata"])
def test_a_deeply_nested_document_does_not_kill_the_process(module):
    program = (
        f"import json, msgspec, {module}\n"
        "for decode in (json.loads, msgspec.json.decode):\n"
        "    try:\n"
        "        decode(b'[' * 1_000_000)\n"
        "    except (RecursionError, msgspec.DecodeError):\n"
        "        print('refused')\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout.split()) == (0, ["refused", "refused"]), done.stderr[-500:]
