"""A census by many machines, on Procrastinate and PostgreSQL (the extra `fleet`).

    enqueue.py   targets into the ledger, the ledger into jobs of some hundred domains
    route job    some hundred domains resolved and stored                                  jobs.py
    steward job  one a scan: waits until all is routed, draws the names of each address
                 (`scanner.scan.select_names`), makes one job an address; at the end
                 classifies what all workers stored                                        steward.py
    queueing.py  jobs taken and finished several at a time
    probe job    one address: one session at a time, by the job's lock in the database     probe.py
    gate.py      which of them may start now: what the ledger says of the address, what
                 the row of its operator says of all workers' sessions (pace.py, pure)
    worker.py    runs jobs: hundreds of sessions on one loop, one process a core
    status.py    throughput, backlog, parked addresses, time left

A job carries keys, never results: what is done stands in the ledger (`storage.ledger`), so a job that is done twice
finds nothing to do. All times of a fleet are those of the database's clock (clock.py). What is asked of a server
and how patiently is the scanner's own: `scanner.session`, `scanner.pace`.
"""
