"""A chain of its own with contracts and traffic, to try Gapless on."""

import indexer.recursion_limit  # noqa: F401 - for its effect
