"""What we know: tables, writer, coverage, catalog, cache, embedded servers."""
