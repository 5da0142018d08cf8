"""What a node says.

:class:`~indexer.chain.client.ChainClient` is the way in: all endpoints of one chain as one, asked, checked, retried and
failed over. Everything a node says goes through it.
"""

import indexer.recursion_limit  # noqa: F401 - for its effect
