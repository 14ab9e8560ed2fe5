"""Reports of the proxy: refusals and traffic."""
