"""The page of an agent: its transcript as it happens, what waits for it, and what a person can do about it."""

from hive_core.services.dashboard.live import LivePart
from hive_core.services.dashboard.pages.agents import actions, around, queue, transcript
from hive_core.services.dashboard.pages.agents.following import follow
from hive_core.services.dashboard.visit import WebPage

_AGENT = "/agents/{name}"

PAGES = [
    WebPage("GET", _AGENT, transcript.show),
    WebPage("GET", f"{_AGENT}/live", follow),
    WebPage("GET", f"{_AGENT}/turns", transcript.show_turns),
    WebPage("GET", f"{_AGENT}/turns/{{turn}}", transcript.show_turn),
    WebPage("GET", f"{_AGENT}/turns/{{turn}}/{{mark}}", transcript.show_text),
    WebPage("POST", f"{_AGENT}/messages", actions.send),
    WebPage("POST", f"{_AGENT}/questions/{{id}}", actions.answer),
    WebPage("POST", f"{_AGENT}/control/{{order}}", actions.steer),
    WebPage("GET", f"{_AGENT}/queue/{{id}}", queue.show),
    WebPage("POST", f"{_AGENT}/queue/{{id}}/{{change}}", queue.change),
]
LIVE_PARTS = [
    LivePart("agent.head", around.head, around.concerns, settles=True),
    LivePart("agent.waiting", around.waiting, around.concerns),
]
