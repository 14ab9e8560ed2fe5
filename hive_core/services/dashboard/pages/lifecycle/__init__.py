"""Actions on agents: start, stop and the like, their limits, their end, and what is kept of destroyed ones."""

from hive_core.services.dashboard.pages.lifecycle.acting import act
from hive_core.services.dashboard.pages.lifecycle.endings import ask_destroy, ask_purge, destroy, purge, show_kept
from hive_core.services.dashboard.pages.lifecycle.limits import change_limits, show_limits
from hive_core.services.dashboard.visit import WebPage

PAGES = [
    WebPage("POST", "/agents/{name}/act", act),
    WebPage("GET", "/agents/{name}/limits", show_limits),
    WebPage("POST", "/agents/{name}/limits", change_limits),
    WebPage("GET", "/agents/{name}/destroy", ask_destroy),
    WebPage("POST", "/agents/{name}/destroy", destroy),
    WebPage("GET", "/kept", show_kept),
    WebPage("GET", "/kept/{name}/purge", ask_purge),
    WebPage("POST", "/kept/{name}/purge", purge),
]
