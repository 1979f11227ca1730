"""Zones for the real name servers: text in, signed zone files and trust anchors out."""

import datetime as dt

import dns.dnssec
import dns.name
import dns.rdatatype
import dns.zone
from cryptography.hazmat.primitives.asymmetric import ec
from dns.dnssectypes import Algorithm

HEAD = """\
$ORIGIN {origin}.
$TTL 300
@ IN SOA ns.{origin}. hostmaster.{origin}. 1 3600 900 86400 60
@ IN NS ns.{origin}.
ns IN A 127.0.0.1
"""


def parse(origin, body):
    """A dnspython zone from the records of `body`, SOA and NS added."""
    return dns.zone.from_text(HEAD.format(origin=origin) + body, origin=f"{origin}.", relativize=False)


def sign(zone):
    """Sign a zone in place (RFC 4035, NSEC) with one combined key; the trust anchor as a DNSKEY record's text."""
    key = ec.generate_private_key(ec.SECP256R1())
    dnskey = dns.dnssec.make_dnskey(key.public_key(), Algorithm.ECDSAP256SHA256, flags=257)
    now = dt.datetime.now(dt.UTC)
    dns.dnssec.sign_zone(
        zone,
        keys=[(key, dnskey)],
        dnskey_ttl=300,
        inception=now - dt.timedelta(hours=1),
        expiration=now + dt.timedelta(days=1),
    )
    return f"{zone.origin} 300 IN DNSKEY {dnskey.to_text()}"


def forge(zone, name, rdtype, record):
    """Replace a record set of a signed zone and leave its signature, as a forger without the key would."""
    rdtype = dns.rdatatype.from_text(rdtype)
    owner = dns.name.from_text(name)
    rdata = dns.rdata.from_text(dns.rdataclass.IN, rdtype, record, origin=zone.origin, relativize=False)
    zone.replace_rdataset(owner, dns.rdataset.from_rdata(300, rdata))
