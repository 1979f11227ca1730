"""Records as a scan would yield them, for the tests of storage, and a writer with stand-ins for the scanner."""

import hashlib
from datetime import UTC, datetime, timedelta

from sqlalchemy import select

from scanner.records import (
    Certificate,
    ClientAuth,
    EkuClass,
    Endpoint,
    Failure,
    MailRouting,
    MxHost,
    Observation,
    Routing,
    Stage,
    Status,
)
from storage import experiments, schema
from storage.classifications import Basis, replace_classifications
from storage.writer import Writer

START = datetime(2026, 3, 1, 12, 0, 0, tzinfo=UTC)
SEED = 7


async def new_scan(database, **values):
    return await database.new_scan(
        **{
            "label": None,
            "started_at": START,
            "tool_version": "1.0",
            "rules_version": "1",
            "trust_id": "test",
            "seed": SEED,
            "settings": {"port": 25},
            **values,
        }
    )


async def new_experiment(database, **values):
    return await experiments.begin(
        database,
        **{
            "started_at": START,
            "tool_version": "1.0",
            "seed": SEED,
            "approval": None,
            "variants": [],
            "settings": {},
            **values,
        },
    )


def writer_of(database, scan_id):
    return Writer(
        database,
        scan_id,
        seed=SEED,
        operator_of=lambda host: ".".join(host.split(".")[-2:]),
        software_of=lambda observation: "Postfix" if "Postfix" in (observation.greeting or "") else None,
        ca_name_text=lambda der: f"CN={der.hex()}",
    )


async def store(database, scan_id, *records):
    """Write records and wait until they are stored."""
    async with writer_of(database, scan_id) as writer:
        for record in records:
            await writer.write(record)


BASIS = Basis("1", "test", {"as_of": "2026-03-01", "not_measurable": []})


def classify(database, scan_id, certificates, lists=(), basis=BASIS, verdicts=(), asked=(), sts=()):
    """Store what a classification pass found."""
    replace_classifications(database, scan_id, basis, certificates, lists, verdicts, asked, sts)


def endpoint(number=1, *, host=None, address=None, port=25):
    return Endpoint(host or f"mx{number}.example.net", address or f"192.0.2.{number}", port)


def routing(name, *hosts, kind=Routing.MX, rcode="NOERROR"):
    """Mail routing to (preference, host, addresses)."""
    mx = tuple(
        MxHost(preference, host, tuple(addresses), "NOERROR" if addresses else "NODATA", "NOERROR")
        for preference, host, addresses in hosts
    )
    return MailRouting(name, kind, rcode, mx=mx)


def certificate(der, **values):
    """A readable end entity certificate whose DER is any bytes."""
    fields = {
        "readable": True,
        "subject": "CN=mx.example.net",
        "issuer": "CN=Example CA",
        "serial": "0a",
        "not_before": START - timedelta(days=30),
        "not_after": START + timedelta(days=60),
        "key_type": "ec",
        "key_bits": 256,
        "spki_sha256": "ab" * 32,
        "signature_algorithm": "ecdsa-with-SHA256",
        "dns_names": ("mx1.example.net",),
        "eku_oids": ("1.3.6.1.5.5.7.3.1", "1.3.6.1.5.5.7.3.2"),
        "eku_class": EkuClass.SERVER_AND_CLIENT,
    }
    return Certificate(hashlib.sha256(der).hexdigest(), der, **{**fields, **values})


def measured(of, certificates=(b"leaf", b"ca"), *, attempt=1, at=START, **values):
    """An observation that went well."""
    fields = {
        "duration_ms": 1500,
        "reply_code": 250,
        "greeting": "mx.example.net ESMTP Postfix",
        "ehlo_keywords": ("PIPELINING", "STARTTLS"),
        "starttls_offered": True,
        "tls_version": "TLSv1.3",
        "cipher_suite": "TLS_AES_256_GCM_SHA384",
        "group": "x25519",
        "certificate_list": tuple(certificates),
        "client_auth": ClientAuth.NOT_REQUESTED,
    }
    return Observation(of, attempt, Status.MEASURED, Stage.QUIT, None, at, **{**fields, **values})


def failed(of, *, attempt=1, at=START, stage=Stage.GREETING, failure=Failure.NEGATIVE_REPLY, **values):
    fields = {"duration_ms": 100, "reply_code": 421, "detail": "421 too many connections", **values}
    return Observation(of, attempt, Status.FAILED, stage, failure, at, **fields)


def contents(database):
    """Every row of every table, for comparing two states of a database."""
    with database.reading() as connection:
        return {
            table.name: [
                tuple(str(value) for value in row)
                for row in connection.execute(select(table).order_by(*table.primary_key))
            ]
            for table in schema.metadata.sorted_tables
        }
