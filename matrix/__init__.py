"""The software matrix: what real mail servers do with client certificates, observed on loopback, never quoted.

1. `servers`: each software in every mode, and each client certificate shown to it, by `mxcensus experiment`'s code.
2. `clients`: each software given a message to relay, and what it presents to `mxcensus listen`'s code.
3. `results`: what was seen, and what follows from it; pure.
4. `render`: docs/software-matrix.md and reports/data/software_matrix.toml; pure.

`make matrix` runs it all: `python -m matrix`.
"""
