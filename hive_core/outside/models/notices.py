"""The ledger's notices as sentences for the operator. No I/O."""

from __future__ import annotations

from hive_core.outside.models.budgets import WARNED_PART
from hive_core.outside.models.ledger import LedgerNotice
from hive_core.outside.models.vendor_refusals import MOST_REFUSALS
from hive_core.protocol.models.budgets import ALL, Measure


def describe_notice(notice: LedgerNotice) -> str:
    """Return what the operator is told; the first line says what to do about it."""
    match notice.kind:
        case "vendor_refuses":
            return (
                f"{notice.whose} is stopped: the provider {notice.provider} has refused {MOST_REFUSALS} of its calls in"
                f" a row. See whether its key is valid and what it is allowed, then let the agent go on: hive-c0re"
                f" resume {notice.whose}\n\nThe calls were answered with 401 or 403. Until then the hive passes no more"
                " of them on. After a change of the key, a restart of the relay lets all agents go on."
            )
        case "wrong_usage":
            return (
                f"The provider {notice.whose} tells figures of tokens that cannot be right: compare its bill with the"
                f" ledger.\n\nSuch calls are flagged, and counted with no less than the text that came."
            )
    whose = "the hive" if notice.whose == ALL else notice.whose
    name = {"money": "spending limit", "tokens": "limit of tokens", "calls": "limit of calls", None: "budget"}
    limit = f"{name[notice.measure]} {'a day' if notice.period == 'day' else 'in all'}"
    numbers = f"{_amount(notice.measure, notice.spent)} of {_amount(notice.measure, notice.limit)} is spent"
    if notice.kind == "warning":
        return f"{WARNED_PART:.0%} of the {limit} of {whose} is reached: {numbers}. {_how_to_raise(notice)}"
    until = " It begins anew at 00:00 UTC." if notice.period == "day" else ""
    waiting = "Agents wait" if notice.whose == ALL else "It waits"
    return (
        f"The {limit} of {whose} does not allow a call: {numbers}.{until} {_how_to_raise(notice)}\n\n"
        f"{waiting} until then, and {'go' if notice.whose == ALL else 'goes'} on without a command. What a call may"
        " cost at most must be left, so a smaller one may still be made."
    )


def _how_to_raise(notice: LedgerNotice) -> str:
    """Return the sentence with the command, or the setting, that raises a limit."""
    if notice.measure == "money":
        return f"To add money: hive-c0re budget {notice.whose} --add AMOUNT"
    key = f"{notice.measure}_{'per_day' if notice.period == 'day' else 'total'}"
    where = "budget.hive in the settings" if notice.whose == ALL else "[budget] in its agent.toml"
    return f"It is raised by {key} of {where}"


def _amount(measure: Measure | None, value: float) -> str:
    return f"${value:,.2f}" if measure == "money" else f"{value:,.0f}"
