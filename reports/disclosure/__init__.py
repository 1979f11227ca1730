"""Disclosure control: from a Report and who contributes to it to a Release that may leave the house.

1. vocabulary    keys that may be named at all; the rest is `other`
2. cells         every number of the report as a cell, with the operators that contribute to it
3. rules         which cells are sensitive: threshold, dominance, p%
4. relations     what ties the cells together, across figures, units, shares and coverage
5. suppression   what else has to go, so that no sensitive cell can be computed from the rest
6. audit         an attacker who knows the rules, as an integer program; it has the last word
7. release       what is left, as a record and a document
8. differences   a second release beside the first
9. merging       several publishers' releases together
"""
