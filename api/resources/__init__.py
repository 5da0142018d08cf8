"""One module a family of resources."""
