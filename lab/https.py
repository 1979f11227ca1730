"""The lab's policy hosts: scripted HTTPS servers on addresses of their own, one thread a connection."""

import contextlib
import selectors
import socket
import ssl
import tempfile
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from OpenSSL import SSL

from lab.authority import Authority
from lab.sts import Sts

POLL = 0.1
SECONDS = 20
Send = Callable[[bytes], object]


@dataclass(frozen=True, slots=True)
class PolicyHost:
    """One policy host: its name and address, its plan, and the policy that it serves."""

    name: str
    address: str
    plan: Sts
    body: bytes


@dataclass(frozen=True, slots=True)
class Request:
    """One connection as a policy host saw it; `line` and `host` are empty where no request came."""

    address: str
    began: float
    server_name: str | None
    line: str
    host: str
    agent: str


def _head(status: str, *fields: str) -> bytes:
    return "\r\n".join([f"HTTP/1.1 {status}", "Connection: close", *fields, "", ""]).encode()


def _serve(send: Send, body: bytes, media_type: str = "text/plain; charset=utf-8") -> None:
    send(_head("200 OK", f"Content-Type: {media_type}", f"Content-Length: {len(body)}") + body)


def _chunked(send: Send, body: bytes) -> None:
    send(_head("200 OK", "Content-Type: Text/Plain", "Transfer-Encoding: chunked"))
    for octet in body:
        send(b"1\r\n" + bytes([octet]) + b"\r\n")
    send(b"0\r\n\r\n")


def _endless(send: Send, _body: bytes) -> None:
    send(_head("200 OK", "Content-Type: text/plain"))
    while True:
        send(b"mx: more.example\n" * 100)


BEHAVIOURS: dict[str, Callable[[Send, bytes], object]] = {
    "good": _serve,
    "chunked": _chunked,
    "redirect": lambda send, _body: send(_head("302 Found", "Location: https://elsewhere.test/policy")),
    "missing": lambda send, _body: send(_head("404 Not Found", "Content-Length: 0")),
    "busy": lambda send, _body: send(_head("503 Busy", "Content-Length: 0", "Retry-After: 60")),
    "html": lambda send, body: _serve(send, body, "text/html"),
    "endless": _endless,
    "garbage": lambda send, _body: send(b"220 mx.example ESMTP\r\n"),
    "closes": lambda _send, _body: None,
}
"""How a server answers a request; `clear-text` does not even speak TLS."""


class PolicyServers:
    """All policy hosts of a lab on one port. A context manager; `requests` is the log.

    Raises OSError when the port is taken on one of the addresses; nothing is left open then.
    """

    def __init__(self, hosts: list[PolicyHost], authority: Authority, port: int) -> None:
        self.requests: list[Request] = []
        self._selector = selectors.DefaultSelector()
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._accept, name="lab-https", daemon=True)
        self._talking: dict[threading.Thread, socket.socket] = {}
        self._lock = threading.Lock()
        try:
            for host in hosts:
                self._selector.register(_listener(host.address, port), selectors.EVENT_READ, host)
        except OSError:
            self._close()
            raise
        self._contexts = {host.name: _context(host, authority) for host in hosts}

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopping.set()
        self._thread.join()
        with self._lock:
            talking = dict(self._talking)
        for thread, sock in talking.items():
            with contextlib.suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)
            thread.join()
        self._close()

    def _close(self) -> None:
        for key in list(self._selector.get_map().values()):
            if isinstance(key.fileobj, socket.socket):
                key.fileobj.close()
        self._selector.close()

    def _accept(self) -> None:
        while not self._stopping.is_set():
            for key, _ in self._selector.select(POLL):
                assert isinstance(key.fileobj, socket.socket)
                try:
                    sock, _peer = key.fileobj.accept()
                except OSError:
                    continue
                thread = threading.Thread(target=self._talk, args=(sock, key.data), daemon=True)
                with self._lock:
                    self._talking[thread] = sock
                thread.start()

    def _talk(self, sock: socket.socket, host: PolicyHost) -> None:
        began = time.monotonic()
        sock.settimeout(SECONDS)
        heard, name = b"", None
        with sock, contextlib.suppress(OSError, SSL.Error):
            if host.plan.behaviour == "clear-text":
                sock.sendall(_head("400 Bad Request"))
                sock.recv(4096)
            else:
                heard, name = self._over_tls(sock, host)
        lines = heard.decode("latin-1").split("\r\n")
        fields = dict(line.lower().split(": ", 1) for line in lines[1:] if ": " in line)
        said = (lines[0], fields.get("host", ""), fields.get("user-agent", ""))
        with self._lock:
            self.requests.append(Request(host.address, began, name, *said))
            del self._talking[threading.current_thread()]

    def _over_tls(self, sock: socket.socket, host: PolicyHost) -> tuple[bytes, str | None]:
        sock.setblocking(True)
        connection = SSL.Connection(self._contexts[host.name], sock)
        connection.set_accept_state()
        heard = b""
        try:
            connection.do_handshake()
            while b"\r\n\r\n" not in heard and (data := connection.recv(4096)):
                heard += data
            BEHAVIOURS[host.plan.behaviour](connection.sendall, host.body)
            connection.shutdown()
        except (OSError, SSL.Error):  # the client has gone, as it does when it has seen enough
            pass
        name = connection.get_servername()
        return heard, None if name is None else name.decode("ascii", "replace")


def _listener(address: str, port: int) -> socket.socket:
    listener = socket.socket(socket.AF_INET)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((address, port))
        listener.listen(64)
        listener.setblocking(False)
    except OSError:
        listener.close()
        raise
    return listener


def _context(host: PolicyHost, authority: Authority) -> SSL.Context:
    presented = authority.present(host.plan.leaf, host.name)
    context = SSL.Context(SSL.TLS_SERVER_METHOD)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "list.pem"
        path.write_text("".join(map(ssl.DER_cert_to_PEM_cert, presented.certificate_list)))
        context.use_certificate_chain_file(str(path))
    context.use_privatekey(presented.key)
    return context
