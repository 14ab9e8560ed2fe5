"""HTTP + JSON on unix sockets: `host.sock` for the operator, one `core.sock` for each agent."""
