"""The parts that make up the repositories of a daemon, as its settings and its runtime ask for them."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from pathlib import Path

from hive_core.errors import HiveError
from hive_core.infra.database.database import Database
from hive_core.layout import Layout
from hive_core.protocol.config.limits import memory_bytes
from hive_core.runtimes.bubblewrap import inspect_host
from hive_core.settings import Settings
from hive_core.work.repositories.fetch import MirrorFetcher
from hive_core.work.repositories.intake import MirrorImporter
from hive_core.work.repositories.registry import Repositories
from hive_core.work.repositories.upstream.confinement import (
    PlainUpstream,
    SandboxedUpstream,
    UpstreamConfinement,
    remove_lent_files,
)
from hive_core.work.repositories.upstream.credentials import Credentials
from hive_core.work.repositories.upstream.transfer import TransferLimits, Upstreams
from hive_core.work.repositories.upstream.unit import UnitUpstream, end_transfers


def choose_confinement(settings: Settings, layout: Layout, bwrap: str | None) -> UpstreamConfinement:
    """Return the confinement of transfers: units of systemd where it runs the agents, else bubblewrap where it works.

    Raises HiveError `no_systemd`.
    """
    if settings.runtime == "nixos":
        systemd_run = shutil.which("systemd-run")
        if systemd_run is None or not Path("/run/systemd/system").is_dir():
            why = "transfers with upstreams are run by systemd, which does not run here"
            raise HiveError("no_systemd", why, hint='set runtime = "local"')
        return UnitUpstream(systemd_run, (layout.state_dir, layout.run_dir), layout.lent_credentials)
    if bwrap is not None:
        return SandboxedUpstream(bwrap, inspect_host(python=()))
    return PlainUpstream(layout.lent_credentials)


async def open_repositories(
    settings: Settings,
    layout: Layout,
    database: Database,
    credentials: Credentials,
    bwrap: str | None,
    users: Callable[[str], Sequence[str]],
) -> Repositories:
    """Return the registered repositories. What transfers of a killed daemon have left is ended and removed."""
    own = settings.repositories
    confinement = choose_confinement(settings, layout, bwrap)
    if settings.runtime == "nixos":
        await end_transfers()
    remove_lent_files(layout.lent_credentials)
    most = memory_bytes(own.transfer_bytes)
    limits = TransferLimits(seconds=own.transfer_seconds, bytes=most, refs=own.refs)
    upstreams = Upstreams(confinement, layout.scratch, limits)
    repositories = Repositories(
        layout=layout,
        database=database,
        credentials=credentials,
        upstreams=upstreams,
        fetcher=MirrorFetcher(upstreams, MirrorImporter(bwrap, layout.scratch, own.transfer_seconds), most),
        review=settings.approval.work,
        users=users,
    )
    await repositories.open()
    return repositories
