"""The command `hive-ag3nt wake`, with which a program in the agent's container starts a turn of the agent."""

from __future__ import annotations

import argparse
import os
import sys
import uuid

from pydantic import ValidationError

from hive_agent.client.connection import CoreError
from hive_agent.client.core_client import CoreClient
from hive_agent.environment import AgentEnvironment
from hive_core import protocol
from hive_core.protocol import MAX_BODY_BYTES

_PATIENCE_SECONDS = 60.0
_REFUSED = 1
_UNREACHABLE = 3
"""The exit code of hive-c0re if the daemon does not answer."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of `wake`."""
    parser.add_argument("--from", dest="label", metavar="LABEL", required=True, help="name of the calling program")
    parser.add_argument("--body", metavar="TEXT", required=True, help="text of the message; - reads it from stdin")
    parser.add_argument(
        "--patience",
        metavar="SECONDS",
        type=float,
        default=_PATIENCE_SECONDS,
        help="time to wait for a hive that does not answer (default: %(default)g)",
    )
    parser.epilog = "Exit codes: 0 the message is stored, 1 refused, 2 wrong usage, 3 the hive could not be reached."


async def wake(environment: AgentEnvironment, label: str, body: str, patience: float) -> int:
    """Send a message of the agent to itself; returns the exit code and writes errors to stderr."""
    try:
        data = sys.stdin.buffer.read(MAX_BODY_BYTES + 1) if body == "-" else os.fsencode(body)
        if len(data) > MAX_BODY_BYTES:
            return _fail(f"the text has more than {MAX_BODY_BYTES} bytes", "name a file instead", _REFUSED)
        text = data.decode()
        os.fsencode(label).decode()
        request = protocol.WakeRequest(label=label, body=text, idempotency_key=f"wake:{uuid.uuid4()}")
    except UnicodeDecodeError as error:
        return _fail(f"the text is not valid UTF-8 (byte {error.start})", "convert it with iconv", _REFUSED)
    except ValidationError:
        return _fail("the label of --from is not valid", "use one line of 1 to 100 characters", _REFUSED)
    try:
        async with CoreClient(environment.core_socket, max(0.0, patience)) as client:
            await client.wake(request)
    except CoreError as error:
        return _fail(error.message, error.hint, _UNREACHABLE if error.passing else _REFUSED)
    return 0


def _fail(message: str, hint: str, code: int) -> int:
    sys.stderr.write(f"{message}{f' ({hint})' if hint else ''}\n")
    return code
