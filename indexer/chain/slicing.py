"""Long address lists: in slices, or by topic alone with a filter here, whichever moves fewer bytes."""

from indexer.chain.filters import LogFilter


def requests_for(filters: LogFilter, most_addresses: int) -> list[LogFilter]:
    """The filters to send for a wanted filter, one a request.

    Args:
        filters: what is wanted.
        most_addresses: the most addresses in one request.
    """
    return list(filters.slices(most_addresses))
