"""Rules of the network: hosts that agents may reach, and the packets between the daemon and the egress proxy.

`hosts` says which texts are names of hosts, `rules` which of them a rule covers, `named_sets` holds the sets of rules
that are shipped, `services` the places of services of the host. `policy` and `packets` are the models of the connection
between the daemon and `hive-c0re egress`.
"""
