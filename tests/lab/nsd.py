"""One real NSD (authoritative) on a high loopback port."""

import contextlib

import dns.message
import dns.query

from lab.mta.listener import ServerError
from lab.mta.process import directory, process, program

SERVER = """\
server:
    ip-address: {address}@{port}
    server-count: 1
    database: ""
    username: ""
    chroot: ""
    zonesdir: "{root}"
    zonelistfile: "{root}/zone.list"
    xfrdfile: "{root}/xfrd.state"
    xfrdir: "{root}"
    pidfile: ""
    logfile: ""
remote-control:
    control-enable: no
"""
ZONE = """\
zone:
    name: {origin}
    zonefile: {root}/{origin}zone
"""


def missing():
    return None if program("nsd") else "nsd is not installed"


def answers(address, port, name, rdtype):
    """A predicate: a UDP answer to one question comes back, whatever it says."""

    def asked():
        with contextlib.suppress(OSError, dns.exception.DNSException):
            query = dns.message.make_query(name, rdtype)
            return bool(dns.query.udp(query, address, timeout=0.5, port=port).id == query.id)
        return False

    return asked


@contextlib.contextmanager
def running(zones, address, port):
    """Serve dnspython zones; yields nothing, since the callers chose address and port."""
    reason = missing()
    if reason:
        raise ServerError(reason)
    with directory("nsd") as root:
        text = SERVER.format(address=address, port=port, root=root)
        for zone in zones:
            zone.to_file(str(root / f"{zone.origin}zone"), relativize=False)
            text += ZONE.format(origin=zone.origin, root=root)
        config = root / "nsd.conf"
        config.write_text(text)
        command = (program("nsd"), "-d", "-c", str(config))
        with process("nsd", command, root / "log", answers(address, port, zones[0].origin, "SOA")):
            yield
