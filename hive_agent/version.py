"""Which hyperhive this is, as it is installed."""

from __future__ import annotations

from importlib import metadata


def version() -> str:
    """The installed version; `0+source` where the code runs without being installed."""
    try:
        return metadata.version("hyperhive")
    except metadata.PackageNotFoundError:
        return "0+source"
