"""Sessions in an agent: their opening, and the frames that follow it. Without pydantic, for a quick start.

A caller asks the daemon with `POST /v1/agents/{name}/access`, whose body is `requests.AccessRequest`. The daemon
connects to the agent's access socket, writes the frame `OPENING`, and passes the connected descriptor to the caller: it
is attached to the bytes of the HTTP answer (SCM_RIGHTS in unix(7)), and the daemon has no part in what follows.

The agent's side answers with one frame: `ANSWER`, or `ERROR`, after which it closes the connection. Then:

- `run`: the caller sends STDIN, EOF, RESIZE and SIGNAL; the agent's side sends STDOUT and STDERR (with a terminal only
  STDOUT), and at last EXIT. A caller that hangs up ends the command.
- `get`: as `run` of a program that writes a path of the agent to STDOUT as a tar stream. ANSWER holds `name`, the first
  part of each name in the stream.
- `put`: as `run` of a program that reads a tar stream from STDIN. ANSWER holds `name`, which must be the first part of
  each name in the stream.
- `connect`: what is sent and received after ANSWER are the bytes of one connection to a TCP port of the agent.
- `forward`: the caller sends CHANNEL with the descriptor of a unix stream socket attached to its header, as often as it
  likes; each becomes a connection to the port, and carries an ANSWER or ERROR and then raw bytes, as `connect` does.

The daemon alone writes openings, so the agent's side can rely on them. Everything that the agent's side sends is the
agent's word: a caller checks it, and shows it as text of the agent's.
"""
