"""Limits of spending, which harnesses load with the configuration of their agent."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from hive_core.protocol.base import Request

Dollars = Annotated[float, Field(ge=0, le=1_000_000_000, allow_inf_nan=False)]
_Count = Annotated[int, Field(ge=0, le=1_000_000_000_000_000)]


class SpendingLimits(Request):
    """The most that is spent on models; None is no limit. Money is in US dollars, and days are those of UTC."""

    money_per_day: Dollars | None = None
    money_total: Dollars | None = None
    tokens_per_day: _Count | None = None
    tokens_total: _Count | None = None
    calls_per_day: _Count | None = None
    calls_total: _Count | None = None
