"""The pages of the dashboard, by subject: each package has its handlers, templates, scripts and styles."""

from hive_core.services.dashboard.live import LivePart
from hive_core.services.dashboard.pages import (
    agents,
    decisions,
    hive,
    lifecycle,
    new_agent,
    overview,
    repositories,
    settings,
    sign_in,
)
from hive_core.services.dashboard.visit import WebPage


def all_pages() -> list[WebPage]:
    """Return every page."""
    return [
        *sign_in.PAGES,
        *overview.PAGES,
        *agents.PAGES,
        *decisions.PAGES,
        *hive.PAGES,
        *lifecycle.PAGES,
        *new_agent.PAGES,
        *repositories.PAGES,
        *settings.PAGES,
    ]


def all_live_parts() -> list[LivePart]:
    """Return the live parts of all pages."""
    return [
        *overview.LIVE_PARTS,
        *agents.LIVE_PARTS,
        *decisions.LIVE_PARTS,
        *new_agent.LIVE_PARTS,
        *repositories.LIVE_PARTS,
    ]
