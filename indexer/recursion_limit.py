"""Keeps Python's recursion limit where it was.

``py_ecc``, which web3 brings along, raises the limit to 100,000 when it is imported. At that depth a hostile JSON
document (``[[[[…``, from a node or a file) overflows the C stack and kills the process, where it should be a
``RecursionError``. Imported before anything that imports web3, this lets py_ecc do it now and takes it back.
"""

import importlib.util
import sys

_limit = sys.getrecursionlimit()
if importlib.util.find_spec("py_ecc") is not None:
    importlib.import_module("py_ecc")
    sys.setrecursionlimit(_limit)
