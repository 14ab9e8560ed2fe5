"""Building configurations and running agents: the interface of the runtimes, and what both of them share."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from hive_core.layout import Layout
    from hive_core.runtimes.base import Runtime
    from hive_core.settings import Settings


async def open_runtime(settings: Settings, layout: Layout) -> Runtime:
    """Open the runtime of the settings. Raises HiveError if it cannot run on this host."""
    # Imported late, because only one is used and the packages of `nixos` are not installed everywhere.
    if settings.runtime == "nixos":
        from hive_core.runtimes.nixos.runtime import NixosRuntime  # noqa: PLC0415

        return await NixosRuntime.open(settings, layout)
    from hive_core.runtimes.local.programs import write_programs  # noqa: PLC0415
    from hive_core.runtimes.local.runtime import LocalRuntime  # noqa: PLC0415

    write_programs(layout.programs)
    closures, scratch, stop_timeout = layout.closures, layout.scratch, settings.stop_timeout
    return await LocalRuntime.open(
        settings.sandbox, closures=closures, scratch=scratch, stop_timeout=stop_timeout, unsealed=settings.unsealed
    )
