"""The way between the network and the pages: connections, TLS, health, and the way through for scripts."""
