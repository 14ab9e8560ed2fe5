"""Configuration of the daemon's log: one JSON object per line on stderr, without secrets."""

from __future__ import annotations

import logging
import re
import sys
from collections.abc import MutableMapping
from typing import Any

import structlog

_SECRET_KEY = re.compile(r"(?i)key|token|secret|password|credential|authorization|cookie")
# The last one begins where its characters begin only, and possessive parts are not tried again: the time does not grow
# faster than the length of a text, which may be an agent's.
_SECRET_VALUE = re.compile(r"sk-ant-[\w-]{8,}|\bBearer\s++\S+|(?<![\w-])[\w-]{20,}+\.[\w-]{20,}+\.[\w-]{20,}")
_HIDDEN = "[hidden]"
_LEVELS = {"debug": logging.DEBUG, "info": logging.INFO, "warning": logging.WARNING, "error": logging.ERROR}


def configure(level: str) -> None:
    """Log from `level` up. Values under secret-like names and values that look like credentials are hidden."""
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.format_exc_info,
            hide_secrets,
            structlog.processors.JSONRenderer(),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(_LEVELS[level]),
        logger_factory=structlog.WriteLoggerFactory(sys.stderr),
    )
    # Log entries of libraries are written in the same form.
    logging.basicConfig(handlers=[_Handler()], level=max(_LEVELS[level], logging.WARNING), force=True)


def hide_secrets(_: object, __: str, entry: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """Hide secrets in an entry, also in nested values and tracebacks; a structlog processor."""
    return {key: _HIDDEN if _SECRET_KEY.search(key) else _without_secrets(value) for key, value in entry.items()}


def _without_secrets(value: Any) -> Any:
    if isinstance(value, str):
        return _SECRET_VALUE.sub(_HIDDEN, value)
    if isinstance(value, dict):
        return {key: _HIDDEN if _SECRET_KEY.search(str(key)) else _without_secrets(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_without_secrets(item) for item in value]
    return value


class _Handler(logging.Handler):
    def emit(self, record: logging.LogRecord) -> None:
        logger = structlog.get_logger(record.name)
        logger.log(record.levelno, record.getMessage(), logger=record.name, exc_info=record.exc_info or None)
