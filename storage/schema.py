"""The tables of a census, as SQLAlchemy Core: one a record, natural keys.

    scan -- domain -- mx_set -- mx_set_host -- mx_host -- mx_address -- endpoint -- observation
                                                  |                                    |
                       certificate              tlsa -- dane_verdict -------------- certificate_list
                       classification
                       sighting

A `sighting` is a certificate that somebody else saw: `listen` as a server, or whoever made what `import` read.
Domains with the same MX records share one `mx_set`: a million domains on one provider are a million short rows
and one routing. Beside a domain stand `mta_sts`, `sts_policy` and `sts_verdict`. `endpoint` is also the durable
ledger: a row is work while an attempt is due without observation.
`sample_stratum` and `sample_address` have rows only where a scan drew a sample: the addresses that it contacts.
`certificate`, `certificate_list` and `ca_name_set` hold facts and belong to no scan; `experiment` and `trial` stand
beside the scans; everything else has a `scan_id`. Digests are lower-case hex; times are aware UTC, stored by
`UtcTime`; lists are JSON. Names and digests are `Name`, compared byte by byte, so that both databases sort alike.
What servers wrote has gone through `storage.text.escape`.
"""

from sqlalchemy import (
    JSON,
    BigInteger,
    Boolean,
    Column,
    Computed,
    Date,
    Float,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    SmallInteger,
    String,
    Table,
    Text,
)

from storage.types import Name, UtcTime

metadata = MetaData()


def _scan_id() -> Column[int]:
    return Column("scan_id", Integer, ForeignKey("scan.id", ondelete="CASCADE"), primary_key=True)


def _order_key() -> Column[int]:
    """The seeded rank of the row's natural key, at the head of the primary key.

    It follows from the key, and adds nothing to it. But rows then lie in the order in which a scan works on them,
    so that its writes go to pages that it has just used, however large the table is.
    """
    return Column("order_key", BigInteger, primary_key=True, autoincrement=False)


scan = Table(
    "scan",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("label", Text),
    Column("state", String(16), nullable=False),
    Column("started_at", UtcTime, nullable=False),
    Column("finished_at", UtcTime),
    Column("tool_version", Text, nullable=False),
    Column("rules_version", Text, nullable=False),
    Column("trust_id", Text),
    Column("seed", BigInteger, nullable=False),
    Column("settings", JSON, nullable=False),
    Column("target_batches", Integer, nullable=False, default=0),  # entered while loading; see storage.ledger
    sqlite_autoincrement=True,  # an ID that people wrote down is never given to another scan
)

domain = Table(
    "domain",
    metadata,
    _scan_id(),
    _order_key(),
    Column("domain", Name, primary_key=True),
    Column("weight", Float),
    Column("rank", Integer),
    Column("routing", String(16)),  # NULL: not resolved yet
    Column("rcode", String(16)),
    Column("authenticated", Boolean, nullable=False, default=False),
    Column("mx_set", Name),  # NULL: no MX
    sqlite_with_rowid=False,
)

mx_set_host = Table(
    "mx_set_host",
    metadata,
    _scan_id(),
    Column("mx_set", Name, primary_key=True),  # digest of the set's (preference, host, notes)
    Column("position", SmallInteger, primary_key=True),
    Column("preference", Integer, nullable=False),
    Column("mx_host", Name, nullable=False),
    Column("notes", JSON, nullable=False),
    Index("mx_set_host_host", "scan_id", "mx_host"),
    sqlite_with_rowid=False,
)

mx_host = Table(
    "mx_host",
    metadata,
    _scan_id(),
    Column("mx_host", Name, primary_key=True),
    Column("operator", Name, nullable=False),  # registrable domain by the public suffix list
    Column("rcode_a", String(16)),
    Column("rcode_aaaa", String(16)),
    Column("authenticated", Boolean, nullable=False),
    sqlite_with_rowid=False,
)

mta_sts = Table(
    "mta_sts",
    metadata,
    _scan_id(),
    Column("domain", Name, primary_key=True),  # only of domains with a record, or whose record could not be asked
    Column("record", String(8), nullable=False),
    Column("rcode", String(16)),
    Column("id", Text),
    Column("text", Text),
    sqlite_with_rowid=False,
)

sts_policy = Table(
    "sts_policy",
    metadata,
    _scan_id(),
    Column("domain", Name, primary_key=True),
    Column("claimed_at", UtcTime),  # when somebody was last about to be contacted for it
    Column("fetched_at", UtcTime),  # NULL: not fetched yet
    Column("failure", String(24)),
    Column("detail", Text),
    Column("address", Name),
    Column("status", SmallInteger),
    Column("mode", String(8)),
    Column("max_age", Integer),
    Column("mx", JSON),
    Column("text", Text),
    sqlite_with_rowid=False,
)

tlsa = Table(
    "tlsa",
    metadata,
    _scan_id(),
    Column("mx_host", Name, primary_key=True),
    Column("base", Name, nullable=False),  # TLSA base domain
    Column("rcode", String(16)),
    Column("authenticated", Boolean, nullable=False),
    Column("standing", String(12)),  # what holds whatever the host presents; NULL: its records are to be compared
    Column("records", JSON, nullable=False),  # [usage, selector, matching type, hex]
    sqlite_with_rowid=False,
)

mx_address = Table(
    "mx_address",
    metadata,
    _scan_id(),
    Column("address", Name, primary_key=True),
    Column("mx_host", Name, primary_key=True),
    Column("position", SmallInteger, nullable=False),  # in the host's own list
    Index("mx_address_host", "scan_id", "mx_host"),
    sqlite_with_rowid=False,
)

endpoint = Table(
    "endpoint",
    metadata,
    _scan_id(),
    _order_key(),
    Column("mx_host", Name, primary_key=True),
    Column("address", Name, primary_key=True),
    Column("port", Integer, primary_key=True),
    Column("reason", String(20)),  # not-tested: why; NULL once tested, or while work
    Column("due_attempt", SmallInteger, nullable=False, default=1),  # the highest that is to be made; 0: none is
    Column("claimed_attempt", SmallInteger, nullable=False, default=0),  # the highest that was begun
    Column("last_attempt", SmallInteger, nullable=False, default=0),  # the highest with an observation
    Column("claimed_at", UtcTime),  # when the session of claimed_attempt began
    Column("ended_at", UtcTime),  # when the session of last_attempt ended
    Column("not_before", UtcTime),  # parked until then
    # A fact of the two numbers, so that a late observation and a parked retry may arrive in any order.
    Column("done", Boolean, Computed("last_attempt >= due_attempt", persisted=True), nullable=False),
    Index("endpoint_host", "scan_id", "mx_host", "address", "port"),
    sqlite_with_rowid=False,
)

observation = Table(
    "observation",
    metadata,
    _scan_id(),
    _order_key(),
    Column("mx_host", Name, primary_key=True),
    Column("address", Name, primary_key=True),
    Column("port", Integer, primary_key=True),
    Column("attempt", SmallInteger, primary_key=True),
    Column("last", Boolean, nullable=False),  # the attempt that counts
    Column("status", String(12), nullable=False),
    Column("stage", String(16), nullable=False),
    Column("failure", String(16)),
    Column("reply_code", SmallInteger),
    Column("detail", Text, nullable=False),
    Column("greeting", Text),
    Column("ehlo_greeting", Text),
    Column("ehlo_keywords", JSON, nullable=False),
    Column("starttls_offered", Boolean),
    Column("injected_plaintext", Boolean, nullable=False),
    Column("tls_version", String(8)),
    Column("cipher_suite", Text),
    Column("tls_group", Text),
    Column("list_sha256", Name),
    Column("certificate", Name),  # the end entity certificate
    Column("client_auth", String(20), nullable=False),
    Column("ca_names_sha256", Name),
    Column("client_certificate_types", JSON(none_as_null=True)),  # these two: NULL where TLS 1.3 encrypts them
    Column("client_signature_algorithms", JSON(none_as_null=True)),
    Column("software", Text),
    Column("started_at", UtcTime, nullable=False),
    Column("duration_ms", Integer, nullable=False),
    sqlite_with_rowid=False,
)

sample_stratum = Table(
    "sample_stratum",
    metadata,
    _scan_id(),
    Column("stratum", Integer, primary_key=True, autoincrement=False),
    Column("clusters", Integer, nullable=False),
    Column("drawn", Integer, nullable=False),  # of its clusters; each set of so many was equally likely
    Column("addresses", Integer, nullable=False),  # of all its clusters
    sqlite_with_rowid=False,
)

sample_address = Table(
    "sample_address",
    metadata,
    _scan_id(),
    Column("address", Name, primary_key=True),
    Column("stratum", Integer, nullable=False),
    Column(
        "cluster", Integer, nullable=False
    ),  # a number within the scan: an operator, or one address of a large one
    Column("probability", Float, nullable=False),  # with which the address was drawn
    sqlite_with_rowid=False,
)

certificate = Table(
    "certificate",
    metadata,
    Column("sha256", Name, primary_key=True),
    Column("der", LargeBinary, nullable=False),
    Column("readable", Boolean, nullable=False),
    Column("parse_error", Text),
    Column("subject", Text),
    Column("issuer", Text),
    Column("serial", Text),
    Column("not_before", UtcTime),
    Column("not_after", UtcTime),
    Column("key_type", Text),
    Column("key_bits", Integer),
    Column("spki_sha256", Name),
    Column("signature_algorithm", Text),
    Column("dns_names", JSON, nullable=False),
    Column("eku_oids", JSON(none_as_null=True)),
    Column("eku_class", String(16), nullable=False),
    Column("is_ca", Boolean, nullable=False),
    Column("policy_oids", JSON, nullable=False),
    Column("sct_timestamps", JSON, nullable=False),
)

certificate_list = Table(
    "certificate_list",
    metadata,
    Column("list_sha256", Name, primary_key=True),  # digest of the concatenated certificate digests
    Column("certificates", JSON, nullable=False),  # sha256 in the order presented, duplicates kept
)

ca_name_set = Table(
    "ca_name_set",
    metadata,
    Column("ca_names_sha256", Name, primary_key=True),
    Column("names", JSON, nullable=False),  # RFC 4514, in the order sent
    Column("der", LargeBinary, nullable=False),  # the names' DER, concatenated
)

scan_certificate = Table(
    "scan_certificate",
    metadata,
    _scan_id(),
    Column("sha256", Name, primary_key=True),
    Column(
        "role", String(8), nullable=False
    ),  # as an end entity certificate anywhere in the scan: server or client; else ca
    sqlite_with_rowid=False,
)

sighting = Table(
    "sighting",
    metadata,
    _scan_id(),
    Column("number", BigInteger, primary_key=True, autoincrement=False),  # in the order of arrival
    Column("role", String(8), nullable=False),
    Column("sha256", Name),  # the end entity certificate; NULL: a session in which none was presented
    Column("list_sha256", Name),  # NULL where nothing but the end entity certificate is known
    Column("count", BigInteger, nullable=False),
    Column("operator", Name),
    Column("day", Date),
    Column("required", Boolean),  # whether the peer to which it was presented insisted; NULL: nobody said
    # Facts of a session with `listen`. The first three are forgotten when their time is over.
    Column("seen_at", UtcTime),
    Column("prefix", Name),  # /24 or /48
    Column("ehlo_name", Text),
    Column("tls_version", String(8)),
    Column("cipher_suite", Text),
    Column("ended", Text),
    sqlite_with_rowid=False,
)

classification = Table(
    "classification",
    metadata,
    _scan_id(),
    Column("sha256", Name, primary_key=True),
    Column("eku_class", String(16), nullable=False),
    Column("effective_eku_class", String(16), nullable=False),
    Column("hierarchy", String(24), nullable=False),
    Column("programs", String(64), nullable=False),  # sorted, joined by "+", "" for none
    Column("programs_unknown", String(64), nullable=False),
    Column("chrome_estimated", Boolean, nullable=False),
    Column("chrome_absence", String(16)),
    Column("self_signed", Boolean, nullable=False),
    Column("subclass", Text),
    Column("ca_owner", Text),
    Column("exposure", String(16)),  # this and the next three: NULL until classified by rules that have them
    Column("issued_since", String(10)),
    Column("expires_since", String(10)),
    Column("issuer_key", Name),  # NULL too where the names cannot be read
    sqlite_with_rowid=False,
)

second_look = Table(
    "second_look",
    metadata,
    _scan_id(),
    _order_key(),
    Column("mx_host", Name, primary_key=True),
    Column("address", Name, primary_key=True),
    Column("port", Integer, primary_key=True),
    Column("key_type", String(8), nullable=False),  # the only one that was asked for
    Column("stage", String(16), nullable=False),
    Column("failure", String(16)),
    Column("tls_alert", SmallInteger),
    Column("tls_version", String(8)),
    Column("cipher_suite", Text),
    Column("list_sha256", Name),
    Column("certificate", Name),  # the end entity certificate
    Column("started_at", UtcTime, nullable=False),
    Column("duration_ms", Integer, nullable=False),
    sqlite_with_rowid=False,
)

ca_names_verdict = Table(
    "ca_names_verdict",
    metadata,
    _scan_id(),
    Column("ca_names_sha256", Name, primary_key=True),
    Column("list_sha256", Name, primary_key=True),
    Column("names_class", String(20), nullable=False),
    sqlite_with_rowid=False,
)

dane_verdict = Table(
    "dane_verdict",
    metadata,
    _scan_id(),
    Column("mx_host", Name, primary_key=True),
    Column("list_sha256", Name, primary_key=True),
    Column("dane", String(12), nullable=False),
    Column("record", String(12)),  # usage, selector and matching type of the record that matched
    sqlite_with_rowid=False,
)

sts_verdict = Table(
    "sts_verdict",
    metadata,
    _scan_id(),
    Column("domain", Name, primary_key=True),
    Column("mta_sts", String(20), nullable=False),
    Column("unmatched", JSON, nullable=False),
    sqlite_with_rowid=False,
)

list_classification = Table(
    "list_classification",
    metadata,
    _scan_id(),
    Column("list_sha256", Name, primary_key=True),
    Column("chain_complete", Boolean, nullable=False),
    sqlite_with_rowid=False,
)

experiment = Table(
    "experiment",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("started_at", UtcTime, nullable=False),
    Column("finished_at", UtcTime),
    Column("tool_version", Text, nullable=False),
    Column("seed", BigInteger, nullable=False),
    Column("approval", Text),  # the ethics reference; NULL where no machine of others was among the hosts
    Column("variants", JSON, nullable=False),  # label, sha256 and EKU class of each client certificate
    Column("settings", JSON, nullable=False),
    sqlite_autoincrement=True,
)

trial = Table(
    "trial",
    metadata,
    Column("experiment_id", Integer, ForeignKey("experiment.id", ondelete="CASCADE"), primary_key=True),
    Column("position", Integer, primary_key=True, autoincrement=False),  # in the order in which they ended
    Column("mx_host", Name, nullable=False),
    Column("address", Name, nullable=False),
    Column("port", Integer, nullable=False),
    Column("variant", Name, nullable=False),
    Column("outcome", String(16), nullable=False),
    Column("reason", String(32)),
    Column("stage", String(16)),
    Column("failure", String(16)),
    Column("client_auth", String(20)),
    Column("presented", Boolean, nullable=False),
    Column("tls_version", String(8)),
    Column("tls_alert", SmallInteger),
    Column("reply_code", SmallInteger),
    Column("detail", Text, nullable=False),
    Column("ehlo_keywords", JSON, nullable=False),
    Column("started_at", UtcTime),
    Column("duration_ms", Integer),
    sqlite_with_rowid=False,
)
