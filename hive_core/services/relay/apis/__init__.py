"""The vendors' APIs: what is passed on, what answers say of tokens, and the shape of errors. No I/O."""
