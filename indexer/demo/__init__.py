"""A chain of its own with contracts and traffic, to try Gapless on.

* ``run``, ``welcome``, ``manifest``: ``gapless demo``, what it prints, what it indexes.
* ``anvil``, ``world``, ``actions``, ``traffic``, ``values``: its chain, the contracts there, what happens to them.
"""

import indexer.recursion_limit  # noqa: F401 - for its effect
