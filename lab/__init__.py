"""A small Internet on loopback, for the demo and the tests: no network, no root.

`authority` makes certificates of every kind, `hosts` is the table of behaviours and expectations, `population` lays
it out over domains, `smtp` and `dns` serve it, `world` starts it all. `mta/` starts real mail servers for tests.
"""
