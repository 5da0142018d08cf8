"""The status page: facts of one look at the database, a verdict on them, and one HTML document without any script."""
