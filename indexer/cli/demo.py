"""``gapless demo``: a chain, an indexer and an API on this machine, with nothing to set up."""

import os

import typer


def demo() -> None:
    """Run everything on a chain of its own: anvil with traffic, Postgres, Redis, the indexer and the API.

    Prints where to look. Ctrl-C stops all of it; the next start goes on from the same data.
    """
    from indexer.demo.run import demo as run_demo
    from indexer.log import configure
    from indexer.settings import load_settings

    settings = load_settings()
    # The indexer and the API have log files of their own; here only what goes wrong is said.
    configure("WARNING", settings.log_format)
    run_demo(settings.data_dir, os.environ, typer.echo)
