"""SQL of the read API: texts with ``$1``-style parameters, built once per shape of request."""
