"""The demo's last part: a host that no rule allows is refused, asked for, approved, and then reached."""

from __future__ import annotations

import shutil
import time

import job
import view
from daemon import Daemon
from failure import DemoFailed
from internet.enter import ADDRESS, HOST, Internet
from job import Flow, Job

_WISH = f"Please read the price list at http://{HOST}/ before the next order."
_READ = ("exec", "ada", "--", "curl", f"http://{HOST}/")
_REFUSED = "The missing rule is"
_PRICES = "apples 120"
_POLL_SECONDS = 0.1


def play(daemon: Daemon, flow: Flow, limit: float, internet: Internet) -> str:
    """Show the refusal, the request and what comes of it; how it ended, in words. Fails if it ended otherwise."""
    view.heading("The network: ada reaches the hosts that a rule allows, through the hive's proxy")
    if shutil.which("curl") is None:
        view.say("curl is not installed: that part of the demo is left out.")
        return "not shown, as curl is not installed"
    if internet.why_not:
        view.say(f"No network of the demo's own can be made ({internet.why_not}), so nothing answers as {HOST}.")
    else:
        view.say(f"{HOST} is a server of the demo's, at the public address {ADDRESS} in a network of its own.")
    _expect(daemon.output(*_READ), _REFUSED)
    asked = job.ask(daemon, "ada", _WISH)
    job.watch(daemon, flow, Job(asked, "ada"), limit)
    _wait_for_refusal(daemon, limit)
    view.log(daemon.output("net", "ada"))
    (request,) = daemon.client.get("/v1/network/requests")["requests"]
    line = ("net", "ada", "approve", str(request["id"]), "--for", "30m", "--note", "The list, and nothing else.")
    view.log(daemon.output(*line))
    job.watch(daemon, flow, Job(asked, "ada"), limit, shown=True)
    if internet.why_not:
        view.say("The proxy looks the name up now, and answers what comes of that:")
        _expect(daemon.output(*_READ), "")
        return f"{HOST} refused, asked for and approved; nothing answers there"
    _expect(daemon.output(*_READ), _PRICES)
    return f"{HOST} refused, asked for, approved and read"


def _wait_for_refusal(daemon: Daemon, limit: float) -> None:
    """Wait until the proxy has told of the refusal, which it does after a second at most."""
    end = time.monotonic() + limit
    while not daemon.client.get("/v1/agents/ada/network")["refused"]:
        if time.monotonic() > end:
            raise DemoFailed("the proxy does not tell of its refusal")
        time.sleep(_POLL_SECONDS)


def _expect(lines: list[str], what: str) -> None:
    view.log(lines)
    if what not in "\n".join(lines) or (not what and _REFUSED in "\n".join(lines)):
        raise DemoFailed(f"{HOST} was to answer with {what!r}" if what else f"{HOST} is still refused", lines)
