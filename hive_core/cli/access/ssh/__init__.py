"""An SSH server on stdin and stdout, whose commands, files and connections are those of an agent."""
