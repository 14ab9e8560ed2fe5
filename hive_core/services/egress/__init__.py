"""`hive-c0re egress`: the HTTP proxy through which sealed agents reach the hosts that their rules allow."""
