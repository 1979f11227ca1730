"""A small Internet on loopback, for the demo and the tests: no network, no root.

1. `issue` makes one certificate, `authority` a world of them and the trust snapshot that knows it.
2. `hosts` is the table of behaviours, certificates and expectations; `hostile` is that of servers that mean ill.
3. `population` lays a table out over domains, hosts and addresses.
4. `dns` answers for it; `smtp` serves it, by `scripts` that say their part in a `talk`.
5. `world` starts it all in threads, `process` in a process of its own, `python -m lab` by hand.

`mta/` starts real mail servers for tests.
"""
