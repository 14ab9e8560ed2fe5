"""Messages about the network: to who decides on a request, to who has asked, and about refusals.

The words of agents (hosts that they ask for, reasons) are `Quoted`, and none is in the first line of a message.
"""

from __future__ import annotations

from collections.abc import Sequence

from hive_core.errors import HiveError, conflict, forbidden, not_found
from hive_core.infra.database.database import to_datetime
from hive_core.outside.network.reports.store import RefusalRow
from hive_core.outside.network.store import RequestRow, RuleRow
from hive_core.protocol.names import EVERYONE
from hive_core.protocol.network.access import REQUEST_DAYS
from hive_core.text import Quoted, join_list, shown

_TEXT = 2_000
_WIDTH = 300
_LINES = 20

REASONS = {
    "no_rule": "no rule allows it",
    "denied": "a rule denies it",
    "not_a_name": "it is not a name of a host in the internet",
    "port": "no rule allows the port",
    "refused_address": "its address is one that no agent reaches",
    "not_tls": "the connection was not of a protocol that its port may carry",
    "server_name": "the connection was for another host than it asked for",
    "encrypted_hello": "the connection hid the name of its host",
    "connections": "it has as many connections as it may have",
    "bytes_per_day": "it has sent and received as much as it may on a day",
    "bad_request": "the request was not valid HTTP",
    "service_down": "the service of the host does not answer",
    "service_withdrawn": "the operator does not offer the service any more",
}
"""Words for the reasons of refusals, `hive_core.protocol.network.packets.Reason`."""


def review(row: RequestRow, decider: str) -> str:
    """Return the message that asks for a decision on a request."""
    if decider == "manager":
        how = (
            "Use your tools:\n"
            f'    approve_network(number={row.id}, note="...")\n'
            f'    deny_network(number={row.id}, note="why")'
        )
    else:
        how = (
            "On the command line:\n"
            f"    hive-c0re net {row.agent} approve {row.id}\n"
            f"    hive-c0re net {row.agent} deny-request {row.id} --note 'why'"
        )
    return _paragraphs(
        f"{row.agent} asks to reach a host: approve or deny its request {row.id}.",
        how,
        f"It asks for {hours_in_words(row.hours)}, for this host, to which it could send all that it knows:\n"
        f"{Quoted(row.entry).block(_WIDTH)}",
        f"Its reason, in its own words:\n{Quoted(row.why).block(_TEXT)}",
    )


def decided(row: RequestRow, rule: RuleRow | None) -> str:
    """Return the message to the agent about the decision on its request; `rule` is what an approval has made."""
    if rule is None:
        first = f"Your request {row.id} for the network is denied. You do not reach the host."
    else:
        until = "" if rule.ends_at is None else f", until {_time(rule.ends_at)}"
        first = f"Your request {row.id} for the network is approved: you reach the host{until}."
    said = f"What was said with the decision:\n{Quoted(row.note).block(_TEXT)}" if row.note else ""
    return _paragraphs(first, f"You had asked for:\n{Quoted(row.entry).block(_WIDTH)}", said)


def expired(row: RequestRow) -> str:
    """Return the message to the agent about a request on which nobody has decided."""
    return _paragraphs(
        f"Your request {row.id} for the network has expired: nobody has decided on it in {REQUEST_DAYS} days.",
        "Ask again if you still need the host.",
        f"You had asked for:\n{Quoted(row.entry).block(_WIDTH)}",
    )


def often_refused(agent: str, rows: Sequence[RefusalRow], decider: str) -> str:
    """Return the message about hosts that were refused to an agent many times."""
    what = (
        f"To allow one: hive-c0re net {agent} allow HOST --for 2h --note 'why'"
        if decider == "operator"
        else "It can ask for one with its tool request_network, and you decide on that"
    )
    found = [Quoted(f"{row.host}:{row.port}, {row.times} times: {REASONS.get(row.reason, row.reason)}") for row in rows]
    return _paragraphs(
        f"{agent} tries again and again to reach hosts that it may not reach.",
        f"{what}. This is told once for each host.",
        f"Refused most often, with the names that it asked for:\n{join_list(found, _LINES, _WIDTH)}",
    )


def hours_in_words(hours: float) -> str:
    """Return a time in the largest unit that fits, such as `2 hours` or `90 minutes`."""
    minutes = round(hours * 60)
    if minutes % 1_440 == 0:
        return _count(minutes // 1_440, "day")
    return _count(minutes // 60, "hour") if minutes % 60 == 0 else _count(minutes, "minute")


def _count(number: int, word: str) -> str:
    return f"{number} {word}" if number == 1 else f"{number} {word}s"


def _time(at: int) -> str:
    return to_datetime(at).strftime("%Y-%m-%d %H:%M:%S UTC")


def _paragraphs(*parts: str) -> str:
    return "\n\n".join(part for part in parts if part)


# --- refusals of requests to the hive -----------------------------------------------------------------------


def command(agent: str) -> str:
    """Return the command line about the network of an agent, or of all (`*`)."""
    return f"hive-c0re net {'all' if agent == EVERYONE else agent}"


def unknown_request(number: int) -> HiveError:
    """Return the error for a request that does not exist, or that the caller may not see."""
    return not_found("unknown_request", f"there is no request {number} for the network", "hive-c0re net shows them")


def request_ended(row: RequestRow) -> HiveError:
    """Return the error for a decision on a request that is decided."""
    what = f"request {row.id} of {row.agent} was {row.state} by {row.decided_by} already"
    if row.state == "expired":
        what = f"request {row.id} of {row.agent} has expired: nobody had decided on it in {REQUEST_DAYS} days"
    return conflict("request_decided", what, f"change the rule instead: {command(row.agent)} allow or deny")


def not_decider(row: RequestRow) -> HiveError:
    """Return the error for a decision of somebody who does not decide on this request."""
    what = f"request {row.id} of {row.agent} waits for the operator"
    return forbidden("not_decider", what, "the setting approval.network says who decides; tell the operator instead")


def denied_by_settings(entry: str) -> HiveError:
    """Return the error for a host that the settings deny, whatever else allows it."""
    what = f"the settings deny all agents {shown(entry)} (egress.deny), and what denies wins"
    return conflict("host_denied", what, "the operator can take it out of egress.deny")


def denied_by_rule(entry: str, rule: RuleRow) -> HiveError:
    """Return the error for a rule that another one makes useless."""
    whose = "all agents" if rule.agent == EVERYONE else rule.agent
    what = f"a rule denies {shown(rule.entry)} for {whose}, and so {shown(entry)}: what denies wins"
    return conflict("host_denied", what, f"remove it first: {command(rule.agent)} remove {rule.entry}")


def too_many_rules(agent: str) -> HiveError:
    """Return the error for one more rule than there may be."""
    whose = "for all agents" if agent == EVERYONE else f"for {agent}"
    return conflict(
        "too_many_rules",
        f"there are as many rules {whose} as there may be",
        f"remove one first: {command(agent)} remove HOST; what is to last belongs into agent.toml (allowed_hosts)",
    )


def too_many_requests(agent: str, most: int) -> HiveError:
    """Return the error for one more open request than an agent may have."""
    return HiveError(
        "too_many_requests",
        f"{most} requests of {agent} for the network are open already",
        hint="wait for the decisions on them",
        status=429,
    )
