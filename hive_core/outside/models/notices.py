"""The ledger's notices as sentences for the operator. No I/O."""

from __future__ import annotations

from hive_core.outside.models.budgets import HIVE, WARNED_PART
from hive_core.outside.models.ledger import MOST_REFUSALS, LedgerNotice
from hive_core.protocol.models.budgets import Measure


def describe_notice(notice: LedgerNotice) -> str:
    """Return what the operator is told; the first line says what to do about it."""
    match notice.kind:
        case "vendor_refuses":
            return (
                f"The vendor has refused {MOST_REFUSALS} calls of {notice.whose} in a row: see whether the key of its"
                f" provider is valid, and what it is allowed.\n\nThe calls were answered with 401 or 403."
            )
        case "wrong_usage":
            return (
                f"The provider {notice.whose} tells figures of tokens that cannot be right: compare its bill with the"
                f" ledger.\n\nSuch calls are flagged, and counted with no less than the text that came."
            )
    whose = "the hive" if notice.whose == HIVE else notice.whose
    name = {"money": "spending limit", "tokens": "limit of tokens", "calls": "limit of calls", None: "budget"}
    limit = f"{name[notice.measure]} {'a day' if notice.period == 'day' else 'in all'}"
    numbers = f"{_amount(notice.measure, notice.spent)} of {_amount(notice.measure, notice.limit)} is spent"
    if notice.kind == "warning":
        return f"{WARNED_PART:.0%} of the {limit} of {whose} is reached: {numbers}."
    until = " It begins anew at 00:00 UTC." if notice.period == "day" else ""
    return f"The {limit} of {whose} does not allow a call any more: {numbers}.{until}"


def _amount(measure: Measure | None, value: float) -> str:
    return f"${value:,.2f}" if measure == "money" else f"{value:,.0f}"
