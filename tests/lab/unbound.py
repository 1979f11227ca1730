"""One real Unbound, validating, that asks one authoritative server for everything and never the Internet."""

import contextlib

from nsd import answers

from lab.mta.listener import ServerError
from lab.mta.process import directory, process, program

SERVER = """\
server:
    interface: {address}
    port: {port}
    do-daemonize: no
    username: ""
    chroot: ""
    directory: "{root}"
    pidfile: ""
    use-syslog: no
    logfile: ""
    verbosity: 1
    val-log-level: 2
    num-threads: 1
    access-control: 127.0.0.0/8 allow
    do-not-query-localhost: no
    module-config: "validator iterator"
    trust-anchor-file: "{root}/anchors"
    # RFC 6761 has "test." answered on the spot by default.
    local-zone: "test." nodefault
remote-control:
    control-enable: no
"""
# Nothing but the lab's zones is ever looked up, so that no query leaves the machine.
STUB = """\
stub-zone:
    name: "{origin}"
    stub-addr: {address}@{port}
    stub-prime: no
"""


def missing():
    return None if program("unbound") else "unbound is not installed"


@contextlib.contextmanager
def running(origins, anchors, authority, address, port):
    """Resolve `origins` through the server at `authority` (address, port), validating with `anchors` (lines)."""
    reason = missing()
    if reason:
        raise ServerError(reason)
    with directory("unbound") as root:
        (root / "anchors").write_text("\n".join(anchors) + "\n")
        text = SERVER.format(address=address, port=port, root=root)
        for origin in (".", *origins):
            text += STUB.format(origin=origin, address=authority[0], port=authority[1])
        config = root / "unbound.conf"
        config.write_text(text)
        command = (program("unbound"), "-d", "-c", str(config))
        with process("unbound", command, root / "log", answers(address, port, origins[0], "SOA")):
            yield root / "log"
