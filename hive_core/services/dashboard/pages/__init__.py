"""The pages of the dashboard, by subject: each package has its handlers, templates, scripts and styles."""

from hive_core.services.dashboard.live import LivePart
from hive_core.services.dashboard.pages import agents, decisions, lifecycle, new_agent, overview, sign_in
from hive_core.services.dashboard.visit import WebPage


def all_pages() -> list[WebPage]:
    """Return every page."""
    return [*sign_in.PAGES, *overview.PAGES, *lifecycle.PAGES, *new_agent.PAGES, *decisions.PAGES, *agents.PAGES]


def all_live_parts() -> list[LivePart]:
    """Return the live parts of all pages."""
    return [*overview.LIVE_PARTS, *new_agent.LIVE_PARTS, *decisions.LIVE_PARTS, *agents.LIVE_PARTS]
