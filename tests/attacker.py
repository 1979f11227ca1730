"""An attacker of the tests' own: reads release documents, knows what the documentation says, computes intervals.

Nothing of `reports.disclosure` is used: figures, classes and ties are written down here once more.
"""

import highspy
import numpy as np

ONE_OF = {"eku", "hierarchy", "programs", "ca_owner", "key_type", "key_bits", "validity", "exposure"}
OWNERLESS = {"unparsable", "self-signed", "private", "unresolved", "undetermined", "unclassified"}
EARLY = {"connect", "greeting", "ehlo", "starttls"}


def trust_of_hierarchy(name):
    return {"public-chrome": "chrome", "public-not-chrome": "other", "unclassified": "?"}.get(name, "none")


def trust_of_programs(name):
    if name in ("none", "unclassified"):
        return {"none": "none", "unclassified": "?"}[name]
    return "chrome" if "chrome" in name.split("+") else "other"


def affected(key):
    return key[0] == "server+client" and key[1].startswith("public") and key[1] != "public-other-purpose"


def exposed(key):
    return key[0] != "not-affected"


CARRIES = {"server+client": "yes", "client-only": "yes", "server-only": "no", "neither": "no"}
SAME = {  # figures whose keys tell the same class
    "trust": [
        ("hierarchy", lambda k: trust_of_hierarchy(k[0])),
        ("programs", lambda k: trust_of_programs(k[0])),
    ],
    "owner": [(name, lambda k: k[0] if k[0] in OWNERLESS else "owned") for name in ("hierarchy", "issuers")],
    "need": [("eku", lambda k: CARRIES.get(k[0], k[0])), ("client_need", lambda k: k[0])],
    "affected": [("eku_by_hierarchy", affected), ("exposure", exposed)],
    "affected and trust": [
        ("eku_by_hierarchy", lambda k: (affected(k), trust_of_hierarchy(k[1]))),
        ("exposure_by_program", lambda k: (exposed(k), trust_of_programs(k[1]))),
    ],
}
COMES_WITH = [  # a key of the left has one of those of the right
    (("exposure", exposed), ("eku", lambda k: k[0] == "server+client")),
    (("exposure", exposed), ("hierarchy", lambda k: k[0].startswith("public"))),
    (("exposure", exposed), ("issuers", lambda k: k[0] not in OWNERLESS)),
    (("eku", lambda k: k[0] != "server+client"), ("exposure", lambda k: not exposed(k))),
    (("hierarchy", lambda k: not k[0].startswith("public")), ("exposure", lambda k: not exposed(k))),
]
ONE_KEY = {"certificate"}


class Attacker:
    """Variables by name, rows as (coefficients, low, high); `extremes` of any variable."""

    def __init__(self):
        self.names = {}
        self.low, self.high, self.rows = [], [], []
        self.hidden = {}
        self.figures = {}

    def variable(self, name, low=0, high=5000):
        if name not in self.names:
            self.names[name] = len(self.names)
            self.low.append(low)
            self.high.append(high)
        return self.names[name]

    def row(self, terms, low, high):
        sums = {}
        for name, factor in terms:
            sums[self.variable(name)] = sums.get(self.variable(name), 0) + factor
        self.rows.append((sums, low, high))

    def equal(self, left, right):
        self.row([(n, 1) for n in left] + [(n, -1) for n in right], 0, 0)

    def at_most(self, left, right):
        self.row([(n, 1) for n in left] + [(n, -1) for n in right], -np.inf, 0)

    # -------------------------------------------------------------------------------------- what a release says

    def learn(self, document, tag=""):
        figures = {(f["id"], f["unit"]): f for f in document["figures"]}
        listed = {}
        base = document["method"]["round_to"]
        for (name, unit), figure in figures.items():
            kind = figure["coverage"]["kind"]
            keys = [tuple(row["key"].values()) for row in figure["rows"]]
            listed[name, unit] = keys
            self.figures.setdefault(tag, set()).add((unit, name))
            for row, key in zip(figure["rows"], keys, strict=True):
                self.number((tag, unit, name, key), row["count"], base)
            coverage = figure["coverage"]
            self.number((tag, unit, "attempted"), coverage["attempted"], base)
            self.number((tag, unit, kind), coverage["measured"], base)
            lost = []
            for reason, count in coverage["not_measured"].items():
                if count != 0:
                    self.number((tag, unit, f"not {kind}", reason), count, base)
                    lost.append((tag, unit, f"not {kind}", reason))
            self.equal([(tag, unit, name, key) for key in keys], [(tag, unit, kind)])
            self.equal([*lost, (tag, unit, kind)], [(tag, unit, "attempted")])
        for (name, unit), figure in figures.items():
            self.combine(tag, figures, listed, name, unit, figure)
        self.classes(tag, listed)
        self.between(tag, listed, figures)
        self.thresholds(tag, document, listed)

    def number(self, name, count, base):
        if count is None:
            self.hidden[name] = None
            self.variable(name, 1)
        else:
            at = self.variable(name)
            self.low[at] = max(self.low[at], count - base // 2)
            self.high[at] = min(self.high[at], count + (base - 1) // 2)

    def combine(self, tag, figures, listed, name, unit, figure):
        """Two keys and one."""
        for (other, its_unit), simple in figures.items():
            fields = simple["keys"]
            same = its_unit == unit and simple["coverage"]["kind"] == figure["coverage"]["kind"]
            if not same or not set(fields) < set(figure["keys"]):
                continue
            places = [figure["keys"].index(field) for field in fields]
            exact = unit == "certificate" and set(figure["keys"]) <= ONE_OF
            for key in {tuple(k[p] for p in places) for k in listed[name, unit]} | set(listed[other, unit]):
                if key[0] == "mixed":
                    continue
                parts = [k for k in listed[name, unit] if tuple(k[p] for p in places) == key]
                whole = [(tag, unit, other, key)] if key in listed[other, unit] else []
                tie = self.equal if exact else self.at_most
                tie([(tag, unit, name, k) for k in parts], whole)

    def classes(self, tag, listed):
        for unit in {unit for _, unit in listed}:
            for title, refiners in SAME.items():
                self.same_class(tag, listed, unit, title, refiners)
            for (left, having), (right, allowed) in COMES_WITH:
                if (left, unit) in listed and (right, unit) in listed:
                    some = [(tag, unit, left, k) for k in listed[left, unit] if k[0] != "mixed" and having(k)]
                    there = [k for k in listed[right, unit] if k[0] != "mixed" and allowed(k)]
                    mixed = [k for k in listed[right, unit] if k[0] == "mixed" and len(there) > 1]
                    self.at_most(some, [(tag, unit, right, k) for k in there + mixed])

    def same_class(self, tag, listed, unit, title, refiners):
        known = [(name, of) for name, of in refiners if (name, unit) in listed]
        if len(known) < 2:
            return
        keys = {name: [k for k in listed[name, unit] if k[0] != "mixed"] for name, _ in known}
        total = []
        for one in {of(k) for name, of in known for k in keys[name]}:
            sides = [[(tag, unit, name, k) for k in keys[name] if of(k) == one] for name, of in known]
            if unit in ONE_KEY:
                self.equal(*sides)
                continue
            middle = (tag, unit, "class", title, one)
            for side in sides:
                self.at_most(side, [middle])
            total.append(middle)
        if total:
            self.at_most(total, [(tag, unit, "measured")])

    def between(self, tag, listed, figures):
        for name, unit in listed:
            if unit == "operator" and (name, "mx_host") in listed:
                for key in listed[name, unit]:
                    if key[0] != "mixed":
                        hosts = [(tag, "mx_host", name, key)] if key in listed[name, "mx_host"] else []
                        self.at_most([(tag, unit, name, key)], hosts)
        for kind in ("measured", "tested"):
            if (tag, "operator", kind) in self.names and (tag, "mx_host", kind) in self.names:
                self.at_most([(tag, "operator", kind)], [(tag, "mx_host", kind)])
        for unit in {unit for _, unit in listed}:
            self.coverage(tag, unit, listed)

    def coverage(self, tag, unit, listed):
        both = [(tag, unit, kind) in self.names for kind in ("measured", "tested")]
        if all(both):
            self.at_most([(tag, unit, "measured")], [(tag, unit, "tested")])
            reasons = {
                n[3] for n in self.names if n[:2] == (tag, unit) and len(n) == 4 and str(n[2]).startswith("not ")
            }
            for reason in reasons:
                a, b = (
                    [n for n in [(tag, unit, f"not {k}", reason)] if n in self.names]
                    for k in ("measured", "tested")
                )
                if "/" not in reason and reason != "mixed":
                    self.equal(a, b)
        for stage, failure in listed.get(("outcome", unit), []):
            lost = (tag, unit, "not measured", f"{stage}/{failure}")
            lost = [lost] if lost in self.names else []
            if (tag, unit, "measured") in self.names and stage != "mixed":
                tie = self.equal if stage in EARLY and unit == "endpoint" else self.at_most
                tie(lost, [(tag, unit, "outcome", (stage, failure))])
        for (way,) in listed.get(("routing", unit), []):
            lost = (tag, unit, "not measured", way)
            if way in ("null-mx", "none", "error") and lost in self.names:
                self.equal([lost], [(tag, unit, "routing", (way,))])

    def thresholds(self, tag, document, listed):
        least = document["method"]["min_count"]
        for figure in document["figures"]:
            name = figure["id"]
            if (name, "operator") not in listed:
                continue
            for row in figure["rows"]:
                key = tuple(row["key"].values())
                if row["count"] and key[0] != "mixed":
                    having = {key, ("mixed",) * len(key)} & set(listed[name, "operator"])
                    self.row([((tag, "operator", name, k), 1) for k in having], least, np.inf)

    def suppose(self, small, large):
        """Suppose that no number of one release is larger in the other, in the figures where that can be."""
        common = self.figures[small] & self.figures[large]
        units = {unit for unit, _ in self.figures[large]} & {unit for unit, _ in self.figures[small]}
        ties, contradicted = [], set()
        for name in list(self.names):
            row = len(name) == 4 and isinstance(name[3], tuple)
            if name[0] != small or "class" in name or name[1] not in units or (row and name[1:3] not in common):
                continue
            other = (large, *name[1:])
            fits = other in self.names and self.low[self.names[name]] <= self.high[self.names[other]]
            if fits:
                ties.append((name, other))
            elif row:
                contradicted.add(name[1:3])
        for name, other in ties:
            if name[1:3] not in contradicted:
                self.at_most([name], [other])
        return self.possible()

    # ---------------------------------------------------------------------------------------------- attacking

    def solver(self, whole=True):
        model = highspy.HighsLp()
        model.num_col_, model.num_row_ = len(self.names), len(self.rows)
        model.col_cost_ = np.zeros(len(self.names))
        model.col_lower_, model.col_upper_ = np.array(self.low, float), np.array(self.high, float)
        model.row_lower_ = np.array([low for _, low, _ in self.rows], float)
        model.row_upper_ = np.array([high for _, _, high in self.rows], float)
        model.a_matrix_.format_ = highspy.MatrixFormat.kRowwise
        model.a_matrix_.start_ = np.cumsum([0] + [len(terms) for terms, _, _ in self.rows])
        model.a_matrix_.index_ = np.array([at for terms, _, _ in self.rows for at in terms])
        model.a_matrix_.value_ = np.array([f for terms, _, _ in self.rows for f in terms.values()], float)
        if whole:
            model.integrality_ = [highspy.HighsVarType.kInteger] * len(self.names)
        solver = highspy._core._Highs()
        solver.setOptionValue("output_flag", False)
        solver.setOptionValue("threads", 1)
        solver.passModel(model)
        return solver

    def possible(self):
        solver = self.solver()
        solver.run()
        return solver.getModelStatus() == highspy.HighsModelStatus.kOptimal

    def narrowed(self, promises, rng):
        """Name -> interval, of the names whose interval is narrower than promised.

        Solutions that push many names at once prove many intervals; what is left is pushed alone, to both ends.
        """
        solver = self.solver()
        seen = {}

        def push(costs):
            solver.changeColsCost(len(self.names), np.arange(len(self.names), dtype=np.int32), costs)
            solver.run()
            assert solver.getModelStatus() == highspy.HighsModelStatus.kOptimal
            values = solver.getSolution().col_value
            for name in promises:
                value = round(values[self.names[name]])
                low, high = seen.get(name, (value, value))
                seen[name] = (min(low, value), max(high, value))

        def left():
            return [name for name in promises if seen[name][1] - seen[name][0] < promises[name]]

        push(np.zeros(len(self.names)))
        for _ in range(6):
            costs = np.zeros(len(self.names))
            for name in left():
                costs[self.names[name]] = rng.choice([-1.0, 1.0]) / promises[name]
            if costs.any():
                push(costs)
                push(-costs)
        for name in left():
            for sign in (1.0, -1.0):
                costs = np.zeros(len(self.names))
                costs[self.names[name]] = sign
                push(costs)
        return {name: (seen[name], promises[name]) for name in left()}
