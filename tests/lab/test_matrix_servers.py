"""The other real servers of the software matrix: each starts, does what it is told, and is observed rightly.

Making their roots takes minutes and the network, so this runs only with MATRIX=1 (`make matrix` sets it).
"""

import asyncio
import datetime as dt
import os

import pki
import pytest

from lab.mta import courier, haraka, opensmtpd, sendmail
from lab.mta.listener import Asks, Listener
from lab.mta.process import free_port, loopback_prefix, wait_until
from scanner.records import Endpoint
from scanner.session import SessionSettings, observe

pytestmark = [
    pytest.mark.lab,
    pytest.mark.xdist_group("lab-matrix"),
    pytest.mark.timeout(600),
    pytest.mark.skipif(
        not os.environ.get("MATRIX"), reason="NOT TESTED: set MATRIX=1 to start the other mail servers"
    ),
]

SERVERS = {module.__name__.rpartition(".")[2]: module for module in (opensmtpd, sendmail, courier, haraka)}
TRUTH = {Asks.NO: "not-requested", Asks.ASKS: "requested", Asks.INSISTS: "required"}
EHLO_NAME = "census.example.net"


def modes(name):
    asks = [Asks.NO, Asks.INSISTS] if name == "opensmtpd" else list(TRUTH)  # it cannot ask without insisting
    return [(mode, version) for mode in asks for version in ("TLSv1.2", "TLSv1.3")]


@pytest.mark.parametrize("name", SERVERS)
async def test_every_mode_is_observed_as_configured(name, tmp_path):
    authority, prefix = pki.Authority(tmp_path), loopback_prefix()
    port = free_port(f"{prefix}.1")
    listeners = {
        (asks, version): Listener(
            host := f"{name}-{asks}-{version[-1]}.lab.test",
            f"{prefix}.{number}",
            port,
            (authority.issue(host),),
            asks,
            (version,),
            authority.root_file,
        )
        for number, (asks, version) in enumerate(modes(name), start=1)
    }
    settings = SessionSettings(ehlo_name=EHLO_NAME, timeout=20)
    with SERVERS[name].running(list(listeners.values())) as server:
        for (asks, version), listener in listeners.items():
            endpoint = Endpoint(listener.name, listener.address, port)
            found = await observe(endpoint, 1, settings, lambda: dt.datetime.now(dt.UTC))
            # Sendmail refuses a client without a certificate from MAIL on, which a census never says.
            truth = "requested" if name == "sendmail" and asks is Asks.INSISTS else TRUTH[asks]
            assert found.client_auth == truth, (listener.name, found.detail)
            assert found.tls_version == version or asks is Asks.INSISTS, listener.name
            # Sendmail sends the end entity certificate only.
            presented = 1 if name == "sendmail" else None
            assert found.certificate_list == listener.credentials[0].certificate_list[:presented], listener.name

            def ended(listener=listener, asks=asks):
                visits = server.visits(listener)
                return len(visits) == 1 and (asks is Asks.INSISTS or visits[0].quit)

            await asyncio.to_thread(wait_until, ended, f"one visit to {listener.name}", 10)
            assert set(server.visits(listener)[0].ehlo_names) == {EHLO_NAME}
