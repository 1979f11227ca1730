"""The lab of real servers as two tables: mail servers, and domains whose mail routing leads to them.

Every row says what is configured, in the software's terms, and from that what a census must find, in the
contract's words. Tests compare; nothing here looks at what mxcensus does.
"""

import contextlib
import hashlib
import socket
from dataclasses import dataclass, field

import nsd
import pki
import unbound
import zones
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from lab.mta import exim, postfix
from lab.mta.listener import Asks, Listener
from lab.mta.process import directory, free_port, loopback_prefix, wait_until

PROGRAMS = {"postfix": postfix, "exim": exim}
ASK_TRUTH = {Asks.NO: "not-requested", Asks.ASKS: "requested", Asks.INSISTS: "required"}
HIERARCHY_TRUTH = {
    "public": "public-chrome",  # the root is in the lab's trust snapshot
    "private": "private",  # the root is in no snapshot; one host presents it
    "lone": "undetermined",  # nobody presents the issuer
    "self-signed": "self-signed",
}


@dataclass(frozen=True, slots=True)
class Row:
    """One real mail server on one address."""

    label: str
    program: str
    asks: Asks = Asks.NO
    versions: tuple[str, ...] = ()
    eku: str = "server-only"
    issuer: str = "public"
    key: str = "ec"
    tls: bool = True
    options: dict = field(default_factory=dict)  # of pki.Authority.issue
    address: str = ""  # the next free one of the world's network

    @property
    def host(self):
        return f"{self.label}-mx.lab.test"

    @property
    def domain(self):
        return f"{self.label}.lab.test"

    @property
    def client_auth(self):
        return ASK_TRUTH[self.asks] if self.tls else "untested"

    @property
    def hierarchy(self):
        return HIERARCHY_TRUTH[self.issuer] if self.tls else None

    @property
    def tls_version(self):
        return (self.versions or ("TLSv1.3",))[-1] if self.tls else None


MODES = tuple(
    Row(f"{program}-{asks}-{version[-1]}", program, asks, (version,))
    for program in PROGRAMS
    for asks in ASK_TRUTH
    for version in ("TLSv1.2", "TLSv1.3")
)
"""Issue 5's table: each program, not asking, asking and requiring, on each version."""

ROWS = (
    *MODES,
    *(Row(f"{program}-default", program) for program in PROGRAMS),
    *(Row(f"{program}-plain", program, tls=False) for program in PROGRAMS),
    *(Row(f"{program}-old", program, versions=("TLSv1",), key="rsa") for program in PROGRAMS),
    *(Row(f"{program}-asks-default", program, Asks.ASKS) for program in PROGRAMS),
    *(Row(f"postfix-{eku.replace('+', '-')}", "postfix", eku=eku) for eku in pki.EKU),
    Row("exim-dual", "exim", eku="server+client", key="rsa"),
    Row("postfix-leaf-only", "postfix", options={"leaf_only": True}),
    Row("postfix-root-too", "postfix", issuer="private", options={"with_root": True}),
    Row("exim-private", "exim", issuer="private", eku="server+client"),
    Row("exim-lone", "exim", issuer="lone", options={"leaf_only": True}),
    Row("postfix-self", "postfix", issuer="self-signed", eku="absent", options={"self_signed": True}),
    Row("exim-self", "exim", issuer="self-signed", key="rsa", options={"self_signed": True}),
)


@dataclass(frozen=True, slots=True)
class Tlsa:
    """The TLSA record of one host: parameters, whose certificate it names, and the truth about it (RFC 7672)."""

    usage: int
    selector: int
    matching_type: int
    names: str  # the label of a server, or "issuing"
    verdict: str

    @property
    def parameters(self):
        return f"{self.usage} {self.selector} {self.matching_type}"

    def data(self, servers):
        """The association data of the certificate that the record names, in hex (RFC 6698 section 2.1)."""
        issuing = pki.der(servers.public.issuing)
        der = issuing if self.names == "issuing" else servers.certificate_list(self.names)[0]
        if self.selector:
            key = x509.load_der_x509_certificate(der).public_key()
            der = key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
        return (der if not self.matching_type else hashlib.new(("sha256", "sha512")[self.matching_type - 1], der)
                .digest()).hex()  # fmt: skip


TLSA = {
    "postfix-default": Tlsa(3, 1, 1, "postfix-default", "match"),
    "postfix-self": Tlsa(3, 0, 2, "postfix-self", "match"),
    "exim-self": Tlsa(3, 1, 0, "exim-self", "match"),
    "exim-default": Tlsa(3, 1, 1, "postfix-default", "mismatch"),
    "exim-dual": Tlsa(2, 0, 1, "issuing", "match"),
    "postfix-leaf-only": Tlsa(2, 0, 1, "issuing", "mismatch"),
    "exim-private": Tlsa(1, 1, 1, "exim-private", "unusable"),
}
"""All in lab.test, which is signed; the other hosts there have none, and what is in plain.test proves nothing."""

SIX = Row("postfix-six", "postfix", address="::1")


@dataclass(frozen=True, slots=True)
class Domain:
    """One domain with its records and the truth about its routing; `mx` has host -> addresses."""

    name: str
    records: str
    routing: str
    rcode: str = "NOERROR"
    authenticated: bool = True
    mx: tuple[tuple[int, str], ...] = ()
    notes: tuple[str, ...] = ()


def has_ipv6():
    with contextlib.suppress(OSError), socket.socket(socket.AF_INET6) as sock:
        sock.bind(("::1", 0))
        return True
    return False


def missing(*names):
    """Why something of the world cannot run here."""
    programs = PROGRAMS | {"nsd": nsd, "unbound": unbound}
    return [reason for name in names or programs if (reason := programs[name].missing())]


class Servers:
    """The mail servers of the table, running."""

    def __init__(self, root, rows, prefix, port):
        self.port = port
        self.rows = {row.label: row for row in rows}
        self.public = pki.Authority(root, "Public")
        self.private = pki.Authority(root, "Private")
        self._lone = pki.Authority(root, "Lone")
        self.listeners = {
            row.label: self._listener(row, row.address or f"{prefix}.{number}")
            for number, row in enumerate(rows, start=1)
        }
        self.running = {}

    def _listener(self, row, address):
        authority = {"private": self.private, "lone": self._lone}.get(row.issuer, self.public)
        credentials = (authority.issue(row.host, pki.EKU[row.eku], key=row.key, **row.options),) if row.tls else ()
        # Clients are always verified against the private CA, whose subject is what asking servers send.
        return Listener(row.host, address, self.port, credentials, row.asks, row.versions, self.private.root_file)

    def start(self, stack):
        for name, module in PROGRAMS.items():
            own = [self.listeners[label] for label, row in self.rows.items() if row.program == name]
            self.running[name] = stack.enter_context(module.running(own))

    def address(self, label):
        return self.listeners[label].address

    def certificate_list(self, label):
        return tuple(der for c in self.listeners[label].credentials for der in c.certificate_list)

    def visits(self, label, least=0):
        """What the server logged of visitors so far, once there are at least so many."""
        server, listener = self.running[self.rows[label].program], self.listeners[label]
        wait_until(lambda: len(server.visits(listener)) >= least, f"visit {least} to {label} logged", 10)
        return server.visits(listener)


def domains(servers):
    """The table of domains; every row of servers has one of its own, then come the special cases."""
    ordinary, silent = servers.address("postfix-default"), servers.address("postfix-plain")
    exim_host, postfix_host = servers.rows["exim-default"].host, servers.rows["postfix-default"].host
    yield from (
        Domain(row.domain, f"@ MX 10 {row.host}.", "mx", mx=((10, row.host),)) for row in servers.rows.values()
    )
    yield Domain(
        "two.lab.test",
        f"@ MX 20 {postfix_host}.\n@ MX 10 {exim_host}.",
        "mx",
        mx=((10, exim_host), (20, postfix_host)),
    )
    yield Domain("null.lab.test", "@ MX 0 .", "null-mx")
    yield Domain("implicit.lab.test", f"@ A {ordinary}", "implicit-mx", mx=((0, "implicit.lab.test"),))
    yield Domain("empty.lab.test", '@ TXT "no mail, no address"', "none")
    yield Domain("absent.lab.test", "", "none", rcode="NXDOMAIN")
    yield Domain(
        "alias-mx.lab.test",
        f"@ MX 10 alias-host\nalias-host CNAME {postfix_host}.",
        "mx",
        mx=((10, "alias-host.alias-mx.lab.test"),),
        notes=("cname",),
    )
    yield Domain(
        "literal.lab.test",
        "@ MX 10 192.0.2.1.",
        "mx",
        mx=((10, "192.0.2.1"),),
        notes=("address-literal",),
    )
    yield Domain(
        "null-and-more.lab.test",
        f"@ MX 0 .\n@ MX 10 {postfix_host}.",
        "mx",
        mx=((10, postfix_host),),
        notes=("null-mx-ignored",),
    )
    yield Domain("alias.lab.test", "@ CNAME two.lab.test.", "mx", mx=((10, exim_host), (20, postfix_host)))
    yield Domain("closed.lab.test", "@ MX 10 gone\ngone A 127.0.0.77", "mx", mx=((10, "gone.closed.lab.test"),))
    yield Domain(
        "plain.test",
        f"@ MX 10 unsigned\nunsigned A {silent}",
        "mx",
        authenticated=False,
        mx=((10, "unsigned.plain.test"),),
    )
    yield Domain("bogus.test", "@ MX 10 good\ngood A 127.0.0.78", "error", rcode="SERVFAIL", authenticated=False)


LARGE = 400
"""Members of the MX set of many.lab.test: some 20 kB, far beyond what a UDP answer holds."""


def zone_texts(servers, table):
    """Zone origin -> its records."""
    texts = {"lab.test": "", "plain.test": "", "bogus.test": ""}
    for label, row in servers.rows.items():
        address = servers.address(label)
        texts["lab.test"] += f"{row.host}. {'AAAA' if ':' in address else 'A'} {address}\n"
    for label, tlsa in TLSA.items():
        owner = f"_{servers.port}._tcp.{servers.rows[label].host}."
        texts["lab.test"] += f"{owner} TLSA {tlsa.parameters} {tlsa.data(servers)}\n"
    matching = TLSA["postfix-default"]
    texts["plain.test"] += f"_{servers.port}._tcp.unsigned TLSA {matching.parameters} {matching.data(servers)}\n"
    for domain in table:
        zone = next(origin for origin in texts if domain.name == origin or domain.name.endswith(f".{origin}"))
        texts[zone] += f"$ORIGIN {domain.name}.\n{domain.records}\n"
    texts["lab.test"] += "$ORIGIN many.lab.test.\n" + "".join(
        f"@ MX {n} a-host-with-a-long-name-{n}\n" for n in range(LARGE)
    )
    return texts


@dataclass(frozen=True, slots=True)
class Names:
    """The name servers, running; `resolver` is Unbound's (address, port), `log` its log."""

    resolver: tuple[str, int]
    log: object


@contextlib.contextmanager
def serve_names(texts, prefix):
    """NSD with the zones, lab.test and bogus.test signed, and Unbound validating in front of it."""
    parsed = {origin: zones.parse(origin, text) for origin, text in texts.items()}
    anchors = [zones.sign(parsed[origin]) for origin in ("lab.test", "bogus.test")]
    zones.forge(parsed["bogus.test"], "bogus.test.", "MX", "10 evil.bogus.test.")
    authority = (f"{prefix}.251", free_port(f"{prefix}.251"))
    resolver = (f"{prefix}.252", free_port(f"{prefix}.252"))
    with (
        nsd.running(list(parsed.values()), *authority),
        unbound.running([f"{origin}." for origin in texts], anchors, authority, *resolver) as log,
    ):
        yield Names(resolver, log)


@contextlib.contextmanager
def serve_mail():
    """All mail servers of the table on one port."""
    prefix = loopback_prefix()
    rows = (*ROWS, SIX) if has_ipv6() else ROWS
    with directory("world") as root, contextlib.ExitStack() as stack:
        servers = Servers(root, rows, prefix, free_port(f"{prefix}.1"))
        servers.start(stack)
        yield servers
