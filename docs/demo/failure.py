"""What the demo ends with when something goes wrong."""

from __future__ import annotations


class DemoFailed(Exception):
    """Why the demo cannot go on, in words for its user; `log` holds the last lines of whatever tells more."""

    def __init__(self, why: str, log: list[str] | None = None) -> None:
        super().__init__(why)
        self.log = log or []
