"""The house's tables held against the code: who may know whom, and which modules stay pure."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKAGES = ("mxcensus", "scanner", "storage", "reports", "lab", "matrix")

MAY_IMPORT = {
    "scanner": {"scanner"},
    "storage": {"storage", "scanner.records", "scanner.policy_records", "scanner.ledger", "scanner.trials"},
    "reports": {"reports", "storage", "scanner.records", "scanner.policy_records"},
    "lab": {"lab"},
    "mxcensus": {"mxcensus", "scanner", "storage", "reports", "lab"},
    "matrix": {"matrix", "mxcensus", "scanner", "lab"},
}

STEPS = ("targets", "resolver", "routing", "session", "certificates", "trust", "classify", "pace", "ledger")
"""Steps do not import one another, except for what this table allows; `scan` joins them."""
STEP_EXCEPTIONS = {
    "pace": {"ledger"},  # Work is what waits
    "trust": {"certificates"},  # a snapshot holds certificates, read as all others are
    "classify": {"trust", "certificates"},  # a snapshot and certificates are what it classifies by
}

PURE = (
    "scanner.records",
    "scanner.policy_records",
    "scanner.trials",
    "scanner.targets",
    "scanner.exclusions",
    "scanner.addresses",
    "scanner.dnswire",
    "scanner.routing",
    "scanner.mail_policy",
    "scanner.dane",
    "scanner.mta_sts",
    "scanner.certificates",
    "scanner.der",
    "scanner.names",
    "scanner.signatures",
    "scanner.constraints",
    "scanner.authorities",
    "scanner.paths",
    "scanner.trust",
    "scanner.ccadb",
    "scanner.chrome_store",
    "scanner.snapshot",
    "scanner.self_signed",
    "scanner.classify",
    "scanner.policy",
    "scanner.client_auth",
    "scanner.ca_names",
    "scanner.handshake_records",
    "scanner.software",
    "scanner.pace",
    "scanner.turns",
    "reports.definitions",
    "reports.roles",
    "reports.figures",
    "reports.software_matrix",
    "matrix.results",
    "matrix.render",
    "reports.comparison",
    "reports.text",
    "reports.as_json",
    "reports.as_markdown",
    "reports.as_csv",
    "reports.disclosure.rules",
    "reports.disclosure.vocabulary",
    "reports.disclosure.cells",
    "reports.disclosure.relations",
    "reports.disclosure.programming",
    "reports.disclosure.audit",
    "reports.disclosure.suppression",
    "reports.disclosure.release",
    "reports.disclosure.render",
    "reports.disclosure.reading",
    "reports.disclosure.differences",
    "reports.disclosure.merging",
)
IMPURE_IMPORTS = {
    "asyncio",
    "socket",
    "ssl",
    "sqlalchemy",
    "sqlite3",
    "time",
    "random",
    "secrets",
    "OpenSSL",
    "httpx",
}
CLOCKS = {"now", "utcnow", "today", "time", "monotonic"}
MOST_LINES = 500


def modules():
    for package in PACKAGES:
        for path in sorted((ROOT / package).rglob("*.py")):
            parts = path.relative_to(ROOT).with_suffix("").parts
            name = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
            yield name, path


def imports(path):
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


ALL = dict(modules())


def within(name, allowed):
    return any(name == item or name.startswith(item + ".") for item in allowed)


@pytest.mark.parametrize("name", ALL)
def test_packages_know_only_whom_they_may(name):
    package = name.split(".")[0]
    for imported in imports(ALL[name]):
        if imported.split(".")[0] in PACKAGES:
            assert within(imported, MAY_IMPORT[package]), f"{name} imports {imported}"


@pytest.mark.parametrize("step", STEPS)
def test_steps_do_not_import_one_another(step):
    others = {f"scanner.{other}" for other in STEPS if other != step}
    allowed = {f"scanner.{other}" for other in STEP_EXCEPTIONS.get(step, set())}
    for imported in imports(ALL[f"scanner.{step}"]):
        assert not within(imported, others - allowed), f"{step} imports {imported}"


@pytest.mark.parametrize("name", PURE)
def test_pure_modules_touch_no_clock_network_or_database(name):
    tree = ast.parse(ALL[name].read_text())
    found = {imported.split(".")[0] for imported in imports(ALL[name])} & IMPURE_IMPORTS
    assert not found, f"{name} imports {sorted(found)}"
    calls = {
        node.func.attr
        for node in ast.walk(tree)
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr in CLOCKS
    }
    assert not calls, f"{name} reads a clock: {sorted(calls)}"


@pytest.mark.parametrize("name", ALL)
def test_every_module_says_its_job_and_is_read_whole(name):
    text = ALL[name].read_text()
    assert ast.get_docstring(ast.parse(text)), f"{name} has no docstring"
    assert text.count("\n") <= MOST_LINES, f"{name} is longer than {MOST_LINES} lines"


def test_a_dialect_is_named_in_one_place():
    naming = {
        name
        for name, path in ALL.items()
        if name.startswith(("storage", "reports", "mxcensus"))
        and any(imported.startswith("sqlalchemy.dialects") for imported in imports(path))
    }
    assert naming <= {"storage.dialects"}, naming
