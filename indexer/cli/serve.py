"""``gapless serve``: the read API."""

from typing import Annotated

import typer


def serve(
    host: Annotated[str | None, typer.Option(help="Address to listen on; left out: API_HOST.")] = None,
    port: Annotated[int | None, typer.Option(help="Port to listen on; left out: API_PORT.")] = None,
) -> None:
    """Serve the read API over HTTP until told to stop."""
    from functools import partial

    from api import server  # the one place where the indexer knows the API
    from api.settings import load_settings as load_api_settings
    from indexer import log
    from indexer.cli.context import servers
    from indexer.settings import load_settings

    settings = load_settings()
    configure = partial(log.configure, settings.log_level, settings.log_format)
    configure()
    api_settings = load_api_settings(api_host=host, api_port=port)
    with servers(settings, direct=False) as given:
        server.serve(given.database_url, given.redis_url, settings=api_settings, configure_logging=configure)
