"""Which runtime a hive has."""

from __future__ import annotations

from hive_core.layout import Layout
from hive_core.runtimes.base import Runtime
from hive_core.settings import Settings


async def open_runtime(settings: Settings, layout: Layout) -> Runtime:
    """The runtime of the settings, ready to use; raises HiveError where it cannot run here."""
    # Neither pays for the other's imports; those of `nixos` are not even installed everywhere.
    if settings.runtime == "nixos":
        from hive_core.runtimes.nixos.runtime import NixosRuntime  # noqa: PLC0415

        return await NixosRuntime.open(settings, layout)
    from hive_core.runtimes.local.runtime import LocalRuntime  # noqa: PLC0415

    return await LocalRuntime.open(
        settings.sandbox,
        closures=layout.closures,
        scratch=layout.scratch,
        stop_timeout=settings.stop_timeout,
    )
