"""The application: configuration, pipeline, command line, views. The only package that knows all the others."""

from typing import Any


def __getattr__(name: str) -> Any:
    """`__version__`, looked up only when asked for: importlib.metadata would slow down `tocsin --help`."""
    if name != "__version__":
        raise AttributeError(name)
    from importlib.metadata import PackageNotFoundError, version  # noqa: PLC0415  # see above

    try:
        return version("tocsin")
    except PackageNotFoundError:  # run from a source tree that was not installed
        return "0+unknown"
