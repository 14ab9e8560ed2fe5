"""Prices of models: the shipped table with its date, an operator's own rates, and the cost of a call.

Money is held in whole numbers: rates in picodollars for a token, costs in nanodollars, rounded up.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date
from decimal import Decimal
from functools import cache
from importlib.resources import files
from typing import Any, NamedTuple

from hive_core.protocol.models.providers import ModelRates
from hive_core.protocol.models.usage import TokenCounts
from hive_core.protocol.models.vendors import VendorApi

NANO = 1_000_000_000
"""Nanodollars in a dollar."""
_PICO_PER_NANO = 1_000
_PICO_PER_RATE = 1_000_000
"""One dollar for a million tokens is a millionth of a dollar for one, which is this many picodollars."""
BYTES_PER_TOKEN = 3
"""Few texts have more tokens than a third of their bytes; a reservation assumes so many."""
UNSEEN_TOKENS = 200_000
"""Input that is assumed beyond a request with which the model may read more than it was sent."""
_DATED = re.compile(r"(-\d{8}|-\d{4}-\d\d-\d\d|-latest|@\d{8})+$")


@dataclass(frozen=True)
class TokenRates:
    """Prices of one token in picodollars."""

    input: int
    cache_read: int
    cache_write: int
    cache_write_hour: int
    output: int

    @property
    def dearest_input(self) -> int:
        """The highest price that a token of the input can have."""
        return max(self.input, self.cache_read, self.cache_write, self.cache_write_hour)

    def cost(self, tokens: TokenCounts) -> int:
        """Return the price of the tokens of a call in picodollars."""
        return (
            tokens.input * self.input
            + tokens.cache_read * self.cache_read
            + tokens.cache_write * self.cache_write
            + tokens.cache_write_hour * self.cache_write_hour
            + tokens.output * self.output
        )


@dataclass(frozen=True)
class Price:
    """The price of a model: above `long_above` tokens of input, the rates `long` hold for the whole call.

    `fast` is the factor of service at a higher price, `search` the price of a search in picodollars.
    """

    rates: TokenRates
    long_above: int | None = None
    long: TokenRates | None = None
    fast: Decimal = Decimal(1)
    search: int = 0

    def cost(self, tokens: TokenCounts, *, fast: bool = False) -> int:
        """Return the cost of a call in nanodollars."""
        given = tokens.total - tokens.output
        rates = self.long if self.long and self.long_above is not None and given > self.long_above else self.rates
        return self._nano(rates.cost(tokens), fast) + _up(tokens.searches * self.search)

    def most(self, tokens_in: int, tokens_out: int, *, fast: bool = False) -> int:
        """Return the most that a call with so many tokens can cost, in nanodollars, without its searches."""
        rates = [self.rates, self.long] if self.long else [self.rates]
        dearest_in = max(each.dearest_input for each in rates if each)
        dearest_out = max(each.output for each in rates if each)
        return self._nano(tokens_in * dearest_in + tokens_out * dearest_out, fast)

    def _nano(self, pico: int, fast: bool) -> int:
        numerator, denominator = (self.fast if fast else Decimal(1)).as_integer_ratio()
        return -(-pico * numerator // (denominator * _PICO_PER_NANO))

    @property
    def _rank(self) -> int:
        """The figure by which unknown models are compared: the price of ten tokens of input and one of output."""
        return self.most(10_000_000, 1_000_000)


class FoundPrice(NamedTuple):
    """A price; `known` is false if it is the dearest of its vendor, in place of that of an unknown model."""

    price: Price
    known: bool


class PriceTable:
    """Prices of the models of all vendors, with the date of the table."""

    def __init__(self, day: str, prices: Mapping[VendorApi, Mapping[str, Price]]) -> None:
        self.day = day
        self._prices = prices
        self._dearest = {vendor: max(known.values(), key=lambda each: each._rank) for vendor, known in prices.items()}

    def find(self, vendor: VendorApi, model: str) -> FoundPrice:
        """Return the price of a model by its name, with or without a date, and with or without its vendor's prefix."""
        known = self._prices[vendor]
        name = model.removeprefix("models/")
        for candidate in (name, _DATED.sub("", name)):
            if candidate in known:
                return FoundPrice(known[candidate], True)
        return FoundPrice(self._dearest[vendor], False)


def price_of(rates: ModelRates) -> Price:
    """Return the price that an operator has set for the models of a provider."""
    of_input = rates.input
    cache_write = of_input if rates.cache_write is None else rates.cache_write
    return Price(
        TokenRates(
            _pico(of_input),
            _pico(of_input if rates.cache_read is None else rates.cache_read),
            _pico(cache_write),
            _pico(cache_write if rates.cache_write_hour is None else rates.cache_write_hour),
            _pico(rates.output),
        ),
        search=_pico(rates.search) * 1_000_000,
    )


def tokens_of(size: int) -> int:
    """Return how many tokens a text of `size` bytes is assumed to have."""
    return -(-size // BYTES_PER_TOKEN)


def to_nano(dollars: float) -> int:
    """Return an amount in nanodollars."""
    return int(Decimal(str(dollars)) * NANO)


def to_dollars(nano: int) -> float:
    """Return an amount in dollars."""
    return float(Decimal(nano) / NANO)


@cache
def shipped_prices() -> PriceTable:
    """Return the table that is shipped with the program."""
    text = files(__package__).joinpath("prices.toml").read_text()
    return read_prices(tomllib.loads(text, parse_float=Decimal))


def read_prices(table: Mapping[str, Any]) -> PriceTable:
    """Read a table of prices. Raises KeyError and TypeError for a wrong one."""
    day: date = table["date"]
    found: dict[VendorApi, Mapping[str, Price]] = {}
    vendors: tuple[VendorApi, ...] = ("anthropic", "openai", "google")
    for vendor in vendors:
        defaults = table["vendors"][vendor]
        found[vendor] = {name: _read_price(row, defaults) for name, row in table[vendor].items()}
    return PriceTable(day.isoformat(), found)


def _read_price(row: Mapping[str, Any], defaults: Mapping[str, Any]) -> Price:
    return Price(
        _read_rates(row, defaults),
        row.get("long_above"),
        _read_rates(row["long"], defaults) if "long" in row else None,
        Decimal(row.get("fast", defaults["fast"])),
        _pico(defaults["search"]) * 1_000_000,
    )


def _read_rates(row: Mapping[str, Any], defaults: Mapping[str, Any]) -> TokenRates:
    of_input = Decimal(row["input"])

    def rate(name: str) -> int:
        return _pico(row[name] if name in row else of_input * Decimal(defaults.get(f"{name}_factor", 1)))

    write = rate("cache_write")
    hour = rate("cache_write_hour") if "cache_write_hour_factor" in defaults else write
    return TokenRates(_pico(of_input), rate("cache_read"), write, hour, _pico(row["output"]))


def _pico(rate: Decimal | float) -> int:
    """Return dollars for a million tokens as picodollars for one; for one search they are a million times as much."""
    return int((Decimal(str(rate)) * _PICO_PER_RATE).to_integral_value())


def _up(pico: int) -> int:
    return -(-pico // _PICO_PER_NANO)
