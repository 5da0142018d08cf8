"""What a node says."""

import indexer.recursion_limit  # noqa: F401 - for its effect
