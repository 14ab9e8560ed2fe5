"""hive-c0re: the root daemon of a hive, its command line, and the protocol that the harnesses speak."""

import os

__version__ = "0.1.0"

# pydantic loads and runs what any installed package registers as a plugin of it, and looks through all of them to
# know: nothing for a root daemon, nor for its start. https://docs.pydantic.dev/latest/concepts/plugins/
os.environ["PYDANTIC_DISABLE_PLUGINS"] = "__all__"
