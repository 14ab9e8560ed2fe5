"""Git in an agent: the difference of its working tree, and its branches in a repository of this host.

Everything that touches the agent's repository runs in the agent. This host reads text, and a pack that its own git
checks before anything refers to it.
"""
