"""Tests of the prices: python3 -m unittest."""

from __future__ import annotations

import unittest

from prices import total


class Total(unittest.TestCase):
    """The price of an order."""

    def test_counts_every_item(self) -> None:
        """All items of an order are paid for."""
        self.assertEqual(total([500, 250, 125]), 875)

    def test_is_zero_for_an_empty_order(self) -> None:
        """An order without items costs nothing."""
        self.assertEqual(total([]), 0)
