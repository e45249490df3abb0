"""`tocsin serve`: options only; the server over stored data is tocsin.serving."""

from __future__ import annotations

from pathlib import Path

import click

from tocsin.cli.options import command, data_options, port_option


@command(
    "tocsin serve",
    "tocsin serve --data-dir /var/lib/tocsin --port 9000",
    "tocsin serve -c tocsin.yaml --listen '[::1]:8200'",
)
@port_option
@click.option("--listen", metavar="HOST:PORT", help="Address and port, instead of http.listen.")
@data_options
def serve(port: int | None, listen: str | None, config_file: Path | None, data_dir: Path | None) -> None:
    """Show the data of a tocsin that need not run: console and HTTP API.

    Everything is read-only. A configuration adds its rules, and who may ask. `tocsin run` has the same server within.
    """
    if port is not None and listen is not None:
        raise click.UsageError("--port and --listen exclude each other")
    if config_file is None and data_dir is None and Path("tocsin.yaml").exists():
        config_file = Path("tocsin.yaml")
    from tocsin.serving import Place, serve_stored  # noqa: PLC0415  # imports everything: not for --help

    serve_stored(Place(config_file, data_dir, port, listen))
