"""How fast observations enter a database, and for how long that ever holds the event loop.

`python benchmarks/writing.py URL [COUNT]` prints one JSON object: endpoint rows a second (each with its
observation, a certificate for some), and the longest pause of the loop in ms beyond the 5 ms that it sleeps.
"""

import asyncio
import json
import sys
import time
from collections.abc import Iterator
from datetime import UTC, datetime

import uvloop
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from benchmarks.storing import new_scan
from lab.authority import Authority, Leaf
from mxcensus.collector import rare_collections
from scanner import certificates
from scanner.ledger import Record, order_key
from scanner.records import ClientAuth, Endpoint, Observation, Stage, Status
from storage.database import open_database

BEAT = 0.005
SEED = 1
CERTIFICATES = 2_000
"""As many are issued; a census has more, but making them here would be what is measured."""


def records(count: int) -> Iterator[Record]:
    authority, at = Authority(), datetime(2026, 1, 1, tzinfo=UTC)
    issuer = authority.issue(Leaf("server+client"), "bench.test")[1][1]
    ders = []
    for number in range(CERTIFICATES):
        leaf = certificates.parse(_der(authority.issue(Leaf("server+client"), f"h{number}.bench.test")[1][0]))
        ders.append(leaf.der)
        yield leaf
    yield certificates.parse(_der(issuer))
    for number, endpoint in enumerate(sorted(map(_endpoint, range(count)), key=_place)):
        host = endpoint.mx_host
        yield Observation(
            endpoint=endpoint,
            attempt=1,
            status=Status.MEASURED,
            stage=Stage.QUIT,
            failure=None,
            started_at=at,
            duration_ms=900,
            greeting=f"{host} ESMTP Postfix",
            ehlo_greeting=host,
            ehlo_keywords=("PIPELINING", "SIZE 10240000", "STARTTLS", "8BITMIME"),
            starttls_offered=True,
            tls_version="TLSv1.3",
            cipher_suite="TLS_AES_256_GCM_SHA384",
            group="x25519",
            certificate_list=(ders[number % CERTIFICATES], _der(issuer)),
            client_auth=ClientAuth.NOT_REQUESTED,
        )


def _endpoint(number: int) -> Endpoint:
    address = f"10.{number >> 16 & 255}.{number >> 8 & 255}.{number & 255}"
    return Endpoint(f"h{number}.op{number % 5000}.test", address, 25)


def _place(endpoint: Endpoint) -> int:
    """A scan works in this order."""
    return order_key(SEED, f"{endpoint.address} {endpoint.mx_host}")


def _der(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(Encoding.DER)


async def longest_pause(done: asyncio.Event) -> float:
    longest, last = 0.0, time.monotonic()
    while not done.is_set():
        await asyncio.sleep(BEAT)
        now = time.monotonic()
        longest, last = max(longest, now - last - BEAT), now
    return longest


async def run(url: str, count: int) -> dict[str, float]:
    prepared = list(records(count))
    database = open_database(url)
    _, writer = await new_scan(database, SEED)
    done = asyncio.Event()
    beating = asyncio.create_task(longest_pause(done))
    began, cpu = time.monotonic(), time.process_time()
    async with writer:
        for record in prepared:
            await writer.write(record)
    seconds, cpu = time.monotonic() - began, time.process_time() - cpu
    done.set()
    pause = await beating
    database.close()
    return {"rows_a_second": count / seconds, "cpu_ms": cpu / count * 1000, "longest_pause_ms": pause * 1000}


if __name__ == "__main__":
    with rare_collections():
        print(json.dumps(uvloop.run(run(sys.argv[1], int(sys.argv[2]) if len(sys.argv) > 2 else 50_000))))
