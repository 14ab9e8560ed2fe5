"""What the model calls of one turn of Claude Code took: told once for each call. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from hive_agent.backends.json_fields import count, field, text
from hive_agent.backends.transcript import Tell, Usage

_MOST_DOLLARS = 1e9


class Calls:
    """A call is told when it ends; one that may be the turn's last waits for the turn's price."""

    def __init__(self, tell: Tell, window: int) -> None:
        self._tell = tell
        self.window = window
        self._context = 0
        self._message = ""
        self._call: Usage | None = None

    def streamed(self, event: Mapping[str, Any]) -> None:
        """A piece of an answer: its first and its last have the tokens."""
        piece = field(event, "event")
        match text(piece, "type"):
            case "message_start":
                self._begin(piece)
            case "message_delta" if self._call is not None:
                output = count(piece, "usage", "output_tokens")
                if not text(event, "parent_tool_use_id"):  # a sub-agent has a conversation of its own
                    self._context = self._call.input + self._call.cache_read + self._call.cache_write + output
                self._call = replace(self._call, output=output, context=self._context)
                if text(piece, "delta", "stop_reason") == "tool_use":
                    self.close()

    def whole(self, event: Mapping[str, Any]) -> None:
        """A block of an answer, which has been streamed unless the API could not do that."""
        if text(event, "message", "id") != self._message:
            self._begin(event)

    def shortened(self, context: int) -> None:
        """The conversation was shortened to so many tokens, 0 if that was not told: that was a call as well."""
        self.close()
        self._context = context
        self._tell(Usage(context=context, window=self.window))

    def priced(self, result: Mapping[str, Any], model: str) -> None:
        """The turn is over; `model` is the one that it was asked with."""
        self.window = count(result, "modelUsage", model, "contextWindow") or self.window
        spent = field(result, "model_usage_since_last_result")
        prices = [field(used, "costUSD") for used in spent.values()] if isinstance(spent, dict) else []
        known = [price for price in prices if isinstance(price, int | float) and 0 <= price < _MOST_DOLLARS]
        if self._call is not None:
            self._call = replace(self._call, cost_usd=sum(known) if known else None, window=self.window)
        elif sum(known) > 0:
            self._call = Usage(cost_usd=sum(known), context=self._context, window=self.window)
        self.close()

    def close(self) -> None:
        """Tell the call that was kept back."""
        call, self._call = self._call, None
        if call is not None:
            self._tell(call)

    def _begin(self, holder: Mapping[str, Any]) -> None:
        self.close()
        self._message = text(holder, "message", "id")
        used = field(holder, "message", "usage")
        self._call = Usage(
            input=count(used, "input_tokens"),
            output=count(used, "output_tokens"),
            cache_read=count(used, "cache_read_input_tokens"),
            cache_write=count(used, "cache_creation_input_tokens"),
            context=self._context,
            window=self.window,
        )
