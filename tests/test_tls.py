"""What TLS shows: every version, suite, group, list, CertificateRequest and alert, and TLS that means harm."""

import asyncio
from contextlib import ExitStack
from datetime import UTC, datetime

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding
from OpenSSL import SSL
from smtpfake import (
    EHLO_AFTER,
    HELLO_DONE,
    VERSIONS,
    certificate_message,
    certificate_request,
    ecdsa_certificate,
    make_certificate,
    message,
    record,
    rsa_certificate,
    server_context,
    server_hello,
    serving,
)
from test_session import ends, look

from scanner.handshake_records import certificates_in
from scanner.records import ClientAuth, Endpoint, Failure, Stage, Status
from scanner.session import SessionSettings, observe
from scanner.suites import GROUPS, SUITES, suite_name
from scanner.tls import CIPHERS, ClientCertificate, client_context

GOOD = (Status.MEASURED, Stage.QUIT, None)


def der(certificate):
    return certificate.public_bytes(Encoding.DER)


def shakes(*args, **kwargs):
    """A well-behaved server with a context of `server_context`."""
    context = server_context(*args, **kwargs)

    def script(peer):
        peer.until_starttls()
        peer.tls(context)
        peer.rest()

    return script


# --------------------------------------------------------------------------------------------- the facts


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("asks", [False, True])
async def test_versions_and_requests(version, asks):
    observation, peers = await look(shakes(version, ask=asks))
    assert ends(observation) == GOOD
    assert observation.tls_version == version
    assert observation.client_auth is (ClientAuth.REQUESTED if asks else ClientAuth.NOT_REQUESTED)
    assert observation.client_ca_names == (() if asks else None)  # an empty list is still a request
    assert observation.certificate_list == (der(ecdsa_certificate()[0]),)
    assert peers[0].received == ["EHLO scanner.example", "STARTTLS", "EHLO scanner.example", "QUIT"]
    assert peers[0].left == "close_notify"
    assert observation.ehlo_keywords == ("PIPELINING", "STARTTLS", "8BITMIME")
    assert observation.ehlo_greeting == "mx.test at your service"
    assert observation.ehlo_keywords_after_tls == ("8BITMIME",)


@pytest.mark.parametrize("version", ["TLSv1.2", "TLSv1.3"])
async def test_the_list_keeps_order_and_duplicates(version):
    strangers = [make_certificate(f"stranger {n}")[0] for n in range(2)]
    end_entity, key = make_certificate()
    others = [strangers[1], strangers[0], strangers[1], end_entity]
    observation, _ = await look(shakes(version, certificates=(end_entity, key, *others)))
    assert observation.certificate_list == tuple(map(der, [end_entity, *others]))


@pytest.mark.parametrize("version", ["TLSv1.2", "TLSv1.3"])
async def test_ca_names_are_kept_as_der_in_order(version):
    authorities = [make_certificate(name)[0] for name in ("CA 2", "CA 1", "CA é")]
    observation, _ = await look(shakes(version, ask=True, ca_names=authorities))
    assert observation.client_ca_names == tuple(one.subject.public_bytes() for one in authorities)


@pytest.mark.parametrize("version", ["TLSv1.2", "TLSv1.3"])
async def test_server_name_is_the_mx_host_and_never_an_address(version):
    names = []
    context = server_context(version)
    context.set_tlsext_servername_callback(lambda connection: names.append(connection.get_servername()))

    def script(peer):
        peer.until_starttls()
        peer.tls(context)
        peer.rest()

    for host in ("mx.test", "127.0.0.1", "[127.0.0.1]", "::1"):
        observation, _ = await look(script, host=host)
        assert ends(observation) == GOOD
    assert names == [b"mx.test", None, None, None]


@pytest.mark.parametrize(
    ("version", "suite", "name", "certificate"),
    [
        ("TLSv1.2", b"ECDHE-RSA-AES128-GCM-SHA256", "TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256", rsa_certificate),
        ("TLSv1.2", b"AES128-SHA", "TLS_RSA_WITH_AES_128_CBC_SHA", rsa_certificate),
        ("TLSv1", b"ECDHE-ECDSA-AES256-SHA", "TLS_ECDHE_ECDSA_WITH_AES_256_CBC_SHA", ecdsa_certificate),
        ("TLSv1.2", b"NULL-SHA256", "TLS_RSA_WITH_NULL_SHA256", rsa_certificate),
    ],
)
async def test_suites_have_iana_names(version, suite, name, certificate):
    observation, _ = await look(shakes(version, ciphers=suite, certificates=certificate()))
    assert ends(observation) == GOOD
    assert observation.cipher_suite == name
    assert observation.group == ("x25519" if "ECDHE" in name else None)


def test_every_suite_that_we_offer_has_an_iana_name_and_a_certificate():
    offered = SSL.Connection(client_context(), None).get_cipher_list()
    names = [suite_name(suite) for suite in offered]
    assert len(set(names)) == len(names) > 60
    assert all(name.startswith("TLS_") for name in names)
    assert not [name for name in names if "_anon_" in name or "_PSK_" in name or "_SRP_" in name]
    assert b"SECLEVEL=0" in CIPHERS


def test_the_table_of_suites_is_one_to_one():
    assert len(set(SUITES.values())) == len(SUITES)


@pytest.mark.parametrize(
    ("curve", "name"),
    [(ec.SECP256R1(), "secp256r1"), (ec.SECP384R1(), "secp384r1"), (ec.SECP521R1(), "secp521r1")],
)
@pytest.mark.parametrize("version", ["TLSv1.2", "TLSv1.3"])
async def test_groups_have_iana_names(version, curve, name):
    context = server_context(version)
    context.set_tmp_ecdh(curve)

    def script(peer):
        peer.until_starttls()
        peer.tls(context)
        peer.rest()

    observation, _ = await look(script)
    assert observation.group == name


async def test_the_hybrid_group_has_its_iana_name():
    observation, _ = await look(shakes("TLSv1.3"))
    assert observation.group in {"X25519MLKEM768", "x25519"}
    assert "X25519MLKEM768" not in GROUPS


async def test_contexts_are_shared_and_facts_are_not():
    """The info callback belongs to the context; it must find its own connection."""
    settings = SessionSettings("scanner.example", 5.0)
    with ExitStack() as stack:
        ports = [stack.enter_context(serving(shakes(ask=asks)))[0] for asks in (True, False)]
        seen = await asyncio.gather(
            *(
                observe(Endpoint("mx.test", "127.0.0.1", port), 1, settings, lambda: datetime.now(UTC))
                for port in ports * 8
            )
        )
    assert [one.client_auth for one in seen] == [ClientAuth.REQUESTED, ClientAuth.NOT_REQUESTED] * 8


async def test_a_client_certificate_is_presented_where_one_is_asked_for():
    certificate, key = make_certificate("client.test")
    other, _ = make_certificate("client CA")
    presented = []

    def script(peer):
        peer.until_starttls()
        peer.tls(server_context(require=True))
        presented.append(peer.peer_chain())
        peer.rest()

    mine = ClientCertificate((certificate, other), key)
    observation, _ = await look(script, client_certificate=mine)
    assert ends(observation) == GOOD
    assert presented == [[der(certificate), der(other)]]


def test_a_client_certificate_with_another_key_is_refused():
    certificate, _ = make_certificate("client.test")
    with pytest.raises(SSL.Error):
        client_context(ClientCertificate((certificate,), ec.generate_private_key(ec.SECP256R1())))


# ------------------------------------------------------------------------------------------------- alerts

REQUIRING = {40, 42, 43, 46, 116}


def alerting_tls12(number):
    """An alert between our Finished and the server's."""

    def script(peer):
        peer.until_starttls()
        peer.tls(server_context("TLSv1.2", ask=True), last_flight=False)
        peer.say_raw(record(21, bytes([2, number])))

    return script


def alerting_tls13(number):
    """An alert after our Finished, the first record under the application key."""

    def script(peer):
        peer.until_starttls()
        context = server_context("TLSv1.3", ask=True)
        context.set_tls13_ciphersuites(b"TLS_AES_128_GCM_SHA256")
        peer.tls(context, last_flight=False)  # keeps the session tickets back
        peer.alert_tls13(number)

    return script


@pytest.mark.parametrize(
    "number", sorted({*REQUIRING, 10, 20, 41, 44, 45, 47, 48, 49, 50, 51, 70, 80, 112, 200, 255})
)
@pytest.mark.parametrize(
    ("script", "stage"), [(alerting_tls12, Stage.HANDSHAKE), (alerting_tls13, Stage.EHLO_AFTER_TLS)]
)
async def test_alerts_after_our_finished(script, stage, number):
    observation, _ = await look(script(number))
    assert ends(observation) == (Status.MEASURED, stage, Failure.TLS_ALERT), observation.detail
    assert observation.tls_alert == number
    if number in REQUIRING:
        assert observation.client_auth is ClientAuth.REQUIRED
    elif number != 50:  # GnuTLS up to TLS 1.2, see tests/test_client_auth.py
        assert observation.client_auth is ClientAuth.REQUESTED_UNKNOWN


@pytest.mark.parametrize("number", range(256))
async def test_alerts_instead_of_a_handshake(number):
    def script(peer):
        peer.until_starttls()
        peer.say(record(21, bytes([2, number])))

    observation, _ = await look(script)
    assert ends(observation) == (Status.FAILED, Stage.HANDSHAKE, Failure.TLS_ALERT)
    assert observation.tls_alert == number
    assert observation.client_auth is ClientAuth.UNTESTED


@pytest.mark.parametrize("number", [0, 112])
async def test_a_warning_before_the_handshake_ends_nothing(number):
    """unrecognized_name (RFC 6066 section 3) may be a warning; close_notify is a close."""

    def script(peer):
        peer.until_starttls()
        peer.say(record(21, bytes([1, number])))
        if number:
            peer.tls(server_context("TLSv1.2"))
            peer.rest()

    observation, _ = await look(script)
    assert ends(observation) == (GOOD if number else (Status.FAILED, Stage.HANDSHAKE, Failure.CLOSED))
    assert observation.tls_alert is None


@pytest.mark.parametrize("version", ["TLSv1", "TLSv1.1", "TLSv1.2", "TLSv1.3"])
async def test_required_keeps_the_certificate(version):
    """The server's own OpenSSL says it: during the handshake up to TLS 1.2, after it on TLS 1.3."""

    def script(peer):
        peer.until_starttls()
        peer.tls(server_context(version, require=True))

    observation, _ = await look(script)
    assert observation.client_auth is ClientAuth.REQUIRED
    assert observation.certificate_list == (der(ecdsa_certificate()[0]),)
    stage = Stage.EHLO_AFTER_TLS if version == "TLSv1.3" else Stage.HANDSHAKE
    assert ends(observation) == (Status.MEASURED, stage, Failure.TLS_ALERT)
    assert observation.tls_alert == (116 if version == "TLSv1.3" else 40)
    assert observation.tls_version == version


@pytest.mark.parametrize(("version", "stage"), [("TLSv1.2", Stage.HANDSHAKE), ("TLSv1.3", Stage.EHLO_AFTER_TLS)])
@pytest.mark.parametrize("how", ["close", "close_notify", "reset"])
async def test_a_close_after_our_finished(version, stage, how):
    def script(peer):
        peer.until_starttls()
        context = server_context(version, ask=True)
        peer.tls(context, last_flight=version == "TLSv1.3")
        if how == "close_notify":
            if version == "TLSv1.2":
                peer.say_raw(record(21, b"\x01\x00"))
            else:
                peer.close_notify()
        elif how == "reset":
            peer.reset()

    observation, _ = await look(script)
    failure, verdict = (
        (Failure.RESET, ClientAuth.REQUESTED_UNKNOWN) if how == "reset" else (Failure.CLOSED, ClientAuth.REQUIRED)
    )
    assert ends(observation) == (Status.MEASURED, stage, failure)
    assert observation.client_auth is verdict


# --------------------------------------------------------------------------------- TLS that means harm


def writes(*messages, end="silence"):
    """A server that writes a TLS 1.2 handshake by itself."""

    def script(peer):
        peer.until_starttls()
        peer.read()
        for one in messages:
            peer.say(one)
        if end == "silence":
            peer.silence()
        elif end == "reset":
            peer.reset()

    return script


def flight(*messages):
    return record(22, b"".join(messages))


def rsa_der():
    return der(rsa_certificate()[0])


MALFORMED = [b"\x30\x03\x02\x01\x01", b"not DER at all", b"\x30\x84\xff\xff\xff\xff", b"\x00" * 40]


@pytest.mark.parametrize("bad", MALFORMED)
async def test_a_certificate_that_openssl_cannot_read_is_kept_up_to_tls12(bad):
    script = writes(flight(server_hello(), certificate_message([bad, rsa_der()]), HELLO_DONE))
    observation, _ = await look(script)
    assert ends(observation) == (Status.MEASURED, Stage.HANDSHAKE, Failure.TLS_PROTOCOL)
    assert observation.certificate_list == (bad, rsa_der())
    assert observation.tls_version == "TLSv1.2"
    assert observation.client_auth is ClientAuth.UNTESTED


async def test_a_certificate_list_of_ten_megabytes_ends_early():
    script = writes(flight(server_hello(), certificate_message([rsa_der()] * 12_000)))
    observation, _ = await look(script, seconds=5)
    assert ends(observation) == (Status.FAILED, Stage.HANDSHAKE, Failure.TLS_PROTOCOL)
    assert "excessive" in observation.detail
    assert observation.duration_ms < 4000


@pytest.mark.parametrize("version", ["TLSv1.2", "TLSv1.3"])
async def test_a_thousand_certificates(version):
    """OpenSSL takes 100 KB of certificates; beyond that the session ends and says so (docs/decisions/0021)."""
    stranger, _ = make_certificate("stranger")
    script = shakes(version, certificates=(*ecdsa_certificate(), *[stranger] * 999))
    observation, _ = await look(script, seconds=5)
    assert ends(observation) == (Status.FAILED, Stage.HANDSHAKE, Failure.TLS_PROTOCOL)
    assert "excessive" in observation.detail
    few, _ = await look(shakes(version, certificates=(*ecdsa_certificate(), *[stranger] * 199)), seconds=5)
    assert ends(few) == GOOD
    assert len(few.certificate_list) == 200


async def test_ten_thousand_ca_names():
    names = [b"\x30\x00"] * 10_000
    listed = flight(server_hello(), certificate_message([rsa_der()]), certificate_request(names), HELLO_DONE)
    observation, _ = await look(writes(listed), seconds=1)
    assert ends(observation) == (Status.MEASURED, Stage.HANDSHAKE, Failure.TIMEOUT)
    assert observation.client_ca_names == tuple(names)
    assert observation.client_auth is ClientAuth.REQUESTED_UNKNOWN


async def test_ca_names_beyond_the_bound_keep_the_certificate():
    names = [ecdsa_certificate()[0].subject.public_bytes()] * 10_000
    request = message(13, certificate_request([])[4:-2] + b"\xff\xff" + b"".join(names))
    script = writes(flight(server_hello(), certificate_message([rsa_der()]), request, HELLO_DONE))
    observation, _ = await look(script, seconds=5)
    assert ends(observation) == (Status.MEASURED, Stage.HANDSHAKE, Failure.TLS_PROTOCOL)
    assert "excessive" in observation.detail
    assert observation.duration_ms < 4000


async def test_a_key_of_16384_bits():
    """Two well-known primes (RFC 3526 group 18, RFC 7919 ffdhe8192) make one without a search of minutes."""
    key = huge_key()
    certificate, _ = make_certificate(key=key)
    for version in ("TLSv1.2", "TLSv1.3"):
        observation, _ = await look(shakes(version, certificates=(certificate, key)), seconds=20)
        assert ends(observation) == GOOD
        assert observation.certificate_list == (der(certificate),)


def huge_key():
    def arctan_inverse(x, bits):
        total, term, n, sign = 0, (1 << bits) // x, 1, 1
        while term:
            total += sign * (term // n)
            term //= x * x
            n, sign = n + 2, -sign
        return total

    def euler(bits):
        total = term = 1 << bits
        n = 1
        while term:
            term //= n
            total += term
            n += 1
        return total

    guard = 64
    pi = 4 * (4 * arctan_inverse(5, 8062 + guard) - arctan_inverse(239, 8062 + guard)) >> guard
    e = euler(8062 + guard) >> guard
    p = 2**8192 - 2**8128 - 1 + 2**64 * (pi + 4743158)
    q = 2**8192 - 2**8128 - 1 + 2**64 * (e + 10965728)
    d = pow(65537, -1, (p - 1) * (q - 1))
    numbers = rsa.RSAPrivateNumbers(
        p,
        q,
        d,
        d % (p - 1),
        d % (q - 1),
        pow(q, -1, p),
        rsa.RSAPublicNumbers(65537, p * q),
    )
    return numbers.private_key(unsafe_skip_rsa_key_validation=True)


async def test_records_cut_anywhere_are_put_together():
    def script(peer):
        peer.until_starttls()
        peer.bytewise = True
        peer.tls(server_context("TLSv1.2", ask=True))
        peer.rest()

    observation, _ = await look(script, seconds=5)
    assert ends(observation) == GOOD
    assert observation.client_auth is ClientAuth.REQUESTED


@pytest.mark.parametrize("end", ["close", "reset"])
async def test_a_handshake_cut_anywhere(end):
    """The facts seen before the cut are kept; none is made up."""
    messages = (server_hello(), certificate_message([rsa_der()]), certificate_request([]), HELLO_DONE)
    pieces = b"".join(record(22, one) for one in messages)
    hello = len(record(22, messages[0]))
    certificate_end = hello + len(record(22, messages[1]))
    for cut in [*range(0, len(pieces), 41), hello, certificate_end - 1, certificate_end, len(pieces)]:
        observation, _ = await look(writes(pieces[:cut], end=end))
        assert observation.stage is Stage.HANDSHAKE
        assert observation.failure is (Failure.CLOSED if end == "close" else Failure.RESET), cut
        assert (observation.status is Status.MEASURED) == (cut >= certificate_end), cut
        assert (observation.client_ca_names is not None) == (cut == len(pieces)), cut
        verdict = ClientAuth.REQUIRED if end == "close" else ClientAuth.REQUESTED_UNKNOWN  # our Finished is out
        assert observation.client_auth is (verdict if cut == len(pieces) else ClientAuth.UNTESTED)


@pytest.mark.parametrize("end", ["close", "reset"])
@pytest.mark.parametrize("version", ["TLSv1.2", "TLSv1.3"])
async def test_a_session_cut_anywhere(version, end):
    """Every 29th octet of all that a server says, TLS included: the stages come in order, and nothing is ours."""
    context = server_context(version)

    def session(peer):
        peer.until_starttls()
        peer.tls(context)
        peer.rest()

    def cut_at(offset):
        def script(peer):
            peer.budget = offset
            try:
                session(peer)
            finally:
                if end == "reset":
                    peer.reset()

        return script

    _, peers = await look(session)
    stages = []
    for offset in range(1, peers[0].sent - 1, 29):
        observation, _ = await look(cut_at(offset))
        stages.append(list(Stage).index(observation.stage))
        finished = observation.stage is Stage.QUIT
        assert observation.failure in ((None,) if finished else (Failure.CLOSED, Failure.RESET)), offset
        assert (observation.status is Status.MEASURED) == (observation.certificate_list != ()), offset
        assert observation.status is Status.MEASURED or observation.stage is not Stage.EHLO_AFTER_TLS
        assert observation.client_auth in {ClientAuth.UNTESTED, ClientAuth.NOT_REQUESTED}
    if end == "close":  # a reset may overtake what was said before
        assert stages == sorted(stages)
    assert set(stages) >= {list(Stage).index(stage) for stage in (Stage.GREETING, Stage.HANDSHAKE)}


async def test_renegotiation_is_declined():
    """A HelloRequest after the handshake (RFC 5246 section 7.4.1.1) is answered with an alert."""

    def script(peer):
        peer.until_starttls()
        peer.tls(server_context("TLSv1.2"))
        peer.renegotiate()
        peer.hear()
        peer.say(EHLO_AFTER)
        peer.hear()

    observation, _ = await look(script)
    assert observation.stage in {Stage.EHLO_AFTER_TLS, Stage.QUIT}
    assert observation.status is Status.MEASURED


async def test_endless_data_after_the_handshake_is_bounded():
    def script(peer):
        peer.until_starttls()
        peer.tls(server_context())
        peer.hear()
        while True:
            peer.say(b"250-a\r\n" * 2000)

    observation, _ = await look(script, seconds=5)
    assert ends(observation) == (Status.MEASURED, Stage.EHLO_AFTER_TLS, Failure.MALFORMED)
    assert observation.duration_ms < 4000


# -------------------------------------------------------------------- certificates in a clear handshake


def test_certificates_are_read_from_records_however_they_are_cut():
    body = server_hello() + certificate_message([b"one", b"two"]) + HELLO_DONE
    for size in (1, 3, 7, 1000):
        records = b"".join(record(22, body[i : i + size]) for i in range(0, len(body), size))
        assert certificates_in(records) == (b"one", b"two")
    assert certificates_in(record(22, server_hello()) + record(20, b"\1") + record(22, body)) == ()


def test_half_a_certificate_message_is_none():
    whole = record(22, server_hello() + certificate_message([b"one", b"two"]))
    assert all(certificates_in(whole[:cut]) == () for cut in range(len(whole)))


@pytest.mark.parametrize(
    "body",
    [b"", b"\0\0\0", b"\0\0\1x", b"\0\0\3\0\0\0", b"\0\0\5\0\0\1xx", b"\0\0\4\0\0\2x", b"\0\0\7\0\0\1x\0\0\1"],
)
def test_lying_lengths_are_none(body):
    assert certificates_in(record(22, message(11, body))) == ()
