"""A chain of its own with contracts and traffic, to try Gapless on.

* ``run``: ``gapless demo``, and what it prints.
* ``analyst``: a login that reads its database. ``positions``: the program of its manifest.
* ``anvil``, ``world``, ``actions``, ``traffic``, ``values``: its chain, the contracts there and the manifest that
  indexes them, what happens to them.
"""

import indexer.chain  # noqa: F401 - for its effect on Python's recursion limit
