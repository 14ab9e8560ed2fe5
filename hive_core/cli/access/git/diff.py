"""The difference of an agent's working tree, made by git in the agent."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import closing

from hive_core.cli.access import session
from hive_core.cli.access.frame_stream import FrameStream
from hive_core.cli.access.git.find import FIND
from hive_core.cli.client import Client
from hive_core.cli.errors import Failure
from hive_core.cli.output import shown_lines
from hive_core.protocol.access.opening import Opening
from hive_core.text import escaped_line, format_bytes

_CHUNK = 64 * 1024
_MOST_SHOWN = 64 * 1024 * 1024
_DIFF = (
    FIND
    + """\
against=${2:-HEAD}
# New files are shown too, without a change of the agent's own index.
index=$(mktemp) || exit 3
trap 'rm -f "$index"' EXIT
cp "$(git rev-parse --git-path index)" "$index" 2>/dev/null || rm -f "$index"
GIT_INDEX_FILE=$index git add --all --intent-to-add . &&
GIT_INDEX_FILE=$index git diff --no-ext-diff --no-color "$against" --
"""
)


def diff_lines(client: Client, agent: str, repository: str, against: str) -> Iterator[str]:
    """Yield the lines of the difference of an agent's working tree, escaped: they are the agent's. Raises Failure."""
    opening = Opening("run", argv=("sh", "-c", _DIFF, "diff", repository, against), directory="/")
    connection = session.open_session(client, agent, opening)
    with closing(connection):
        stream = FrameStream(connection, agent)
        yield from shown_lines(_limited(stream, agent))
        _check_end(stream, agent, "git diff")


def _limited(stream: FrameStream, agent: str) -> Callable[[], bytes]:
    """Return a function that reads a difference, and raises Failure when it is longer than anybody reads."""
    left = _MOST_SHOWN

    def read() -> bytes:
        nonlocal left
        data = stream.read(_CHUNK)
        left -= len(data)
        if left < 0:
            why = f"the difference in {agent} has more than {format_bytes(_MOST_SHOWN)}"
            raise Failure("too_much", why, hint=f'fetch its branches instead: "hive-c0re fetch {agent}"')
        return data

    return read


def _check_end(stream: FrameStream, agent: str, what: str) -> None:
    if stream.end is not None and stream.end.shell_code:
        said = escaped_line(stream.errors.decode(errors="replace").strip()[-600:])
        raise Failure(
            "session_failed",
            f"{what} in {agent} ended with {stream.end.shell_code}: {said}",
            hint=f'look at it yourself: "hive-c0re shell {agent}"',
        )
