"""Decisions of people: on configurations of agents, on work for repositories, and on requests for hosts."""

from __future__ import annotations

from hive_core.services.dashboard.pages.decisions import access, actions, inbox, review
from hive_core.services.dashboard.pages.decisions.deployments import edit, history

PAGES = [*inbox.PAGES, *access.PAGES, *review.PAGES, *actions.PAGES, *history.PAGES, *edit.PAGES]
LIVE_PARTS = [*inbox.LIVE_PARTS, *access.LIVE_PARTS, *review.LIVE_PARTS, *history.LIVE_PARTS]
