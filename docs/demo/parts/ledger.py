"""A part of the demo: calls of a model through the relay, the ledger that counts them, and a budget that ends them."""

from __future__ import annotations

import json

import vendor
import view
from daemon import Daemon
from failure import DemoFailed

_PORT = 3129
"""Port of the relay on the loopback of every sealed agent."""
_QUESTION = "What do apples cost?"


def play(daemon: Daemon) -> str:
    """Show two calls, of which the second one is beyond ada's budget; what was spent, in words."""
    view.heading("The ledger: ada calls a model through the relay, which has the key that ada has not")
    view.say("The vendor is a stand-in of the demo's: no model, but the vendor's own API, and a key that it checks.")
    request = {"model": vendor.MODEL, "max_tokens": 50, "messages": [{"role": "user", "content": _QUESTION}]}
    address = f"http://127.0.0.1:{_PORT}/{vendor.NAME}/v1/messages"
    line = ("exec", "ada", "--", "curl", "-H", "content-type: application/json", "-d", json.dumps(request), address)
    for expected in (vendor.ANSWER, "hyperhive budget:"):
        answer = daemon.output(*line)
        view.log(answer)
        if expected not in "\n".join(answer):
            raise DemoFailed(f"the relay was to answer with {expected!r}")
    view.log(daemon.output("usage", "ada"))
    (spent,) = [each for each in daemon.client.get("/v1/agents")["agents"] if each["name"] == "ada"]
    return f"1 call of ada's for ${spent['cost_today']:.6f}, and one refused that was beyond its budget"
