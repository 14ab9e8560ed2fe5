"""The `local` runtime: agents as child processes of the daemon, in bubblewrap where that works."""
