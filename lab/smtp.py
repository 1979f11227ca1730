"""Scripted SMTP servers: one thread listens on all addresses, one more a connection says its part.

Threads and blocking sockets on purpose: a script reads from top to bottom, and a TLS alert is on its way before the
socket closes. Every connection is logged as the server saw it.
"""

import contextlib
import json
import selectors
import socket
import ssl
import struct
import tempfile
import threading
import time
from collections.abc import Mapping
from dataclasses import asdict
from io import TextIOWrapper
from pathlib import Path
from typing import Self

from OpenSSL import SSL

from lab.authority import Authority, Presented
from lab.hostile import HOSTILE
from lab.hosts import LabHost
from lab.issue import Leaf
from lab.scripts import SCRIPTS, Script, good
from lab.talk import Over, Talk, Visit

SECONDS = 20
POLL = 0.1
VERSIONS = {
    "tls10": SSL.TLS1_VERSION,
    "tls11": SSL.TLS1_1_VERSION,
    "tls12": SSL.TLS1_2_VERSION,
    "tls13": SSL.TLS1_3_VERSION,
    "asks-tls12": SSL.TLS1_2_VERSION,
    "requires-alert-tls12": SSL.TLS1_2_VERSION,
}
Contexts = Mapping[str, tuple[LabHost, SSL.Context]]
"""The hosts of one address by name; the first is the one that answers when no name is asked for."""


class Servers:
    """All servers of a lab on one port. A context manager; `visits` is the log, `presented` what each host shows.

    Raises OSError when the port is taken on one of the addresses; nothing is left open then.
    """

    def __init__(
        self, hosts: list[LabHost], authority: Authority, port: int, log: TextIOWrapper | None = None
    ) -> None:
        self.visits: list[Visit] = []
        self.presented: dict[tuple[str, str], Presented] = {}
        self._made: dict[tuple[str, str, Leaf], tuple[Presented, SSL.Context]] = {}
        self._log = log
        self._lock = threading.Lock()
        self._selector = selectors.DefaultSelector()
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._accept, name="lab-smtp", daemon=True)
        self._talking: dict[threading.Thread, socket.socket] = {}
        by_address: dict[str, list[LabHost]] = {}
        for host in hosts:
            if host.kind.behaviour != "refused":
                by_address.setdefault(host.address, []).append(host)
        try:
            listeners = {address: self._listen(address, port) for address in by_address}
        except OSError:
            self._close()
            raise
        for address, named in by_address.items():
            self._selector.modify(listeners[address], selectors.EVENT_READ, self._contexts(named, authority))

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopping.set()
        self._thread.join()
        with self._lock:
            talking = dict(self._talking)
        for thread, sock in talking.items():
            with contextlib.suppress(OSError):  # its thread may have closed it just now
                sock.shutdown(socket.SHUT_RDWR)
            thread.join()
        self._close()

    def _listen(self, address: str, port: int) -> socket.socket:
        listener = socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET)
        self._selector.register(listener, selectors.EVENT_READ)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((address, port))
        listener.listen(64)
        listener.setblocking(False)
        return listener

    def _close(self) -> None:
        for key in list(self._selector.get_map().values()):
            if isinstance(key.fileobj, socket.socket):
                key.fileobj.close()
        self._selector.close()

    def _contexts(self, named: list[LabHost], authority: Authority) -> Contexts:
        """One context a host; the first finds the one that the client's server_name asks for."""
        contexts: dict[str, tuple[LabHost, SSL.Context]] = {}
        for host in named:
            key = host.presents or host.name, host.kind.behaviour, host.kind.leaf
            if not host.presents or key not in self._made:
                presented = authority.present(host.kind.leaf, key[0])
                self._made[key] = presented, _context(host, presented, authority)
            presented, context = self._made[key]
            if host.kind.behaviour not in HOSTILE or not HOSTILE[host.kind.behaviour].by_hand:
                self.presented[host.name, host.address] = presented
            contexts[host.name] = host, context
        if len(contexts) == 1:
            return contexts

        def choose(connection: SSL.Connection) -> None:
            name = connection.get_servername()
            if name is not None and (found := contexts.get(name.decode("ascii", "replace"))):
                connection.set_context(found[1])

        contexts[named[0].name][1].set_tlsext_servername_callback(choose)
        return contexts

    def _accept(self) -> None:
        while not self._stopping.is_set():
            for key, _ in self._selector.select(POLL):
                listener = key.fileobj
                assert isinstance(listener, socket.socket)
                try:
                    sock, peer = listener.accept()
                except OSError:  # the client was quicker to go, or there are no more sockets for now
                    continue
                host, context = next(iter(key.data.values()))
                visit = Visit(host.address, f"{peer[0]} {peer[1]}", time.monotonic())
                self.visits.append(visit)
                thread = threading.Thread(target=self._serve, args=(sock, host, context, visit), daemon=True)
                with self._lock:
                    self._talking[thread] = sock
                thread.start()

    def _serve(self, sock: socket.socket, host: LabHost, context: SSL.Context, visit: Visit) -> None:
        sock.setblocking(True)
        for option in (socket.SO_RCVTIMEO, socket.SO_SNDTIMEO):  # a timeout that OpenSSL's own reads obey too
            sock.setsockopt(socket.SOL_SOCKET, option, struct.pack("ll", SECONDS, 0))
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        talk = Talk(sock, host, visit)
        with sock:
            with contextlib.suppress(Over):
                _script(host)(talk, context)
            talk.farewell()
        visit.ended = time.monotonic()
        with self._lock:
            del self._talking[threading.current_thread()]
            if self._log is not None:
                self._log.write(json.dumps(asdict(visit)) + "\n")
                self._log.flush()


def _script(host: LabHost) -> Script:
    behaviour = host.kind.behaviour
    return HOSTILE[behaviour].script if behaviour in HOSTILE else SCRIPTS.get(behaviour, good)


def _context(host: LabHost, presented: Presented, authority: Authority) -> SSL.Context:
    behaviour = host.kind.behaviour
    context = SSL.Context(SSL.TLS_SERVER_METHOD)
    context.set_cipher_list(b"ALL:@SECLEVEL=0")
    version = VERSIONS.get(behaviour)
    if version is not None:
        context.set_min_proto_version(version)
        context.set_max_proto_version(version)
    with tempfile.TemporaryDirectory() as folder:  # by file, since a library that parses would refuse some
        path = Path(folder) / "list.pem"
        path.write_text("".join(map(ssl.DER_cert_to_PEM_cert, presented.certificate_list)))
        context.use_certificate_chain_file(str(path))
    context.use_privatekey(presented.key)
    if behaviour.startswith(("asks", "requires")):
        insists = SSL.VERIFY_FAIL_IF_NO_PEER_CERT if behaviour.startswith("requires-alert") else 0
        context.set_verify(SSL.VERIFY_PEER | insists, lambda *_: True)
    if behaviour in HOSTILE:
        HOSTILE[behaviour].prepare(context)
    if behaviour == "asks-with-names":
        context.add_client_ca(authority.issuers["private"].certificate)
    return context
