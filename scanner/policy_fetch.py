"""The HTTPS edge: fetches one MTA-STS policy from one address (RFC 8461 section 3.3); a failure is a value.

The address is dialled as given, so that what was checked is what is contacted; the name of the policy host goes
into server_name, the certificate check and the Host field. No redirect is followed, no proxy asked, no content
decoded; a body is read up to `mta_sts.MOST_BYTES`, and one timeout bounds it all.
"""

import asyncio
import errno
import ssl
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from datetime import datetime
from types import TracebackType
from typing import Self

import httpx

from scanner.mta_sts import MOST_BYTES, BadPolicy, policy_host, read_policy
from scanner.policy_records import PolicyFailure, StsPolicy
from scanner.records import Certificate

PATH = "/.well-known/mta-sts.txt"
PORT = 443
LONGEST_DETAIL = 200

# What OpenSSL says of a certificate (X509_V_ERR_*) -> what it means here; any other code: untrusted.
_VERIFY_CODES = {
    9: PolicyFailure.CERTIFICATE_EXPIRED,  # not yet valid
    10: PolicyFailure.CERTIFICATE_EXPIRED,
    62: PolicyFailure.CERTIFICATE_NAME,
}
_ERRNOS = {
    errno.ECONNREFUSED: PolicyFailure.REFUSED,
    errno.ECONNRESET: PolicyFailure.CLOSED,
    errno.EPIPE: PolicyFailure.CLOSED,
    errno.ETIMEDOUT: PolicyFailure.TIMEOUT,
    errno.EMFILE: PolicyFailure.LOCAL,
    errno.ENFILE: PolicyFailure.LOCAL,
    errno.EADDRNOTAVAIL: PolicyFailure.LOCAL,
}
# The first that is in the chain of causes counts, from the innermost.
_KINDS: tuple[tuple[type[BaseException], PolicyFailure], ...] = (
    (httpx.ConnectError, PolicyFailure.UNREACHABLE),
    (httpx.NetworkError, PolicyFailure.CLOSED),
    (httpx.RemoteProtocolError, PolicyFailure.MALFORMED),
    (httpx.DecodingError, PolicyFailure.MALFORMED),
)


class Fetcher:
    """Fetches policies; an async context manager.

    `roots` are what a policy host's certificate must chain to, `timeout` the seconds that a fetch may take
    altogether, `user_agent` who asks.
    """

    def __init__(
        self,
        roots: Iterable[Certificate],
        *,
        timeout: float,
        user_agent: str,
        now: Callable[[], datetime],
        port: int = PORT,
    ) -> None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)  # verifies certificate and name
        ders = b"".join(root.der for root in roots)
        if ders:
            context.load_verify_locations(cadata=ders)
        self._timeout = timeout
        self._now = now
        self._port = port
        self._client = httpx.AsyncClient(
            verify=context,
            trust_env=False,
            # One bound for all of it is set around a fetch. But httpcore leaves a socket open when it is cancelled
            # in a TLS handshake, so connect and handshake, a half each, have to end before that.
            timeout=httpx.Timeout(timeout, connect=timeout * 0.45),
            limits=httpx.Limits(max_keepalive_connections=0, max_connections=None),
            headers={
                "User-Agent": "".join(c if " " <= c <= "~" else "?" for c in user_agent),
                "Accept": "text/plain",
                "Accept-Encoding": "identity",
                "Connection": "close",
            },
        )

    async def __aenter__(self) -> Self:
        await self._client.__aenter__()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._client.__aexit__(kind, error, trace)

    async def fetch(self, domain: str, address: str) -> StsPolicy:
        """Fetch the policy of a domain from an address of its policy host; never raises."""
        try:
            async with asyncio.timeout(self._timeout):
                return await self._fetch(domain, address)
        except TimeoutError:
            return self._failed(domain, address, PolicyFailure.TIMEOUT, f"no end after {self._timeout:g} s")
        except Exception as error:  # noqa: BLE001  # whatever a server makes a library raise is a fact about it
            return self._failed(domain, address, _failure(error), _said(error))

    async def _fetch(self, domain: str, address: str) -> StsPolicy:
        literal = f"[{address}]" if ":" in address else address
        host = policy_host(domain)
        request = self._client.build_request(
            "GET",
            f"https://{literal}:{self._port}{PATH}",
            headers={"Host": host if self._port == PORT else f"{host}:{self._port}"},
            extensions={"sni_hostname": host},
        )
        response = await self._client.send(request, stream=True, follow_redirects=False)
        try:
            return await self._read(domain, address, response)
        finally:
            await response.aclose()

    async def _read(self, domain: str, address: str, response: httpx.Response) -> StsPolicy:
        status = response.status_code
        if status != 200:
            failure = PolicyFailure.REDIRECT if 300 <= status < 400 else PolicyFailure.STATUS
            return self._failed(domain, address, failure, f"status {status}", status)
        media_type = response.headers.get("content-type", "").partition(";")[0].strip().lower()
        if media_type != "text/plain":
            return self._failed(domain, address, PolicyFailure.MEDIA_TYPE, media_type or "none", status)
        body = b""
        async for chunk in response.aiter_raw(4096):
            body += chunk
            if len(body) > MOST_BYTES:
                return self._failed(domain, address, PolicyFailure.TOO_LARGE, f"more than {MOST_BYTES}", status)
        text = body.decode("utf-8", "surrogateescape")
        try:
            read = read_policy(body)
        except BadPolicy as error:
            return replace(self._failed(domain, address, PolicyFailure.SYNTAX, str(error), status), text=text)
        found = StsPolicy(domain, self._now(), address=address, status=status, text=text)
        return replace(found, mode=read.mode, max_age=read.max_age, mx=read.mx)

    def _failed(
        self, domain: str, address: str, failure: PolicyFailure, detail: str, status: int | None = None
    ) -> StsPolicy:
        said = detail[:LONGEST_DETAIL]
        return StsPolicy(domain, self._now(), failure, said, address=address, status=status)


def _failure(error: BaseException) -> PolicyFailure:
    """What an exception of httpx or of what lies below it means, by its innermost cause that says something."""
    causes = list(_causes(error))
    if any(isinstance(cause, httpx.TimeoutException) for cause in causes):
        return PolicyFailure.TIMEOUT  # whatever was waited for: TLS tells that by an exception too
    for cause in reversed(causes):
        if isinstance(cause, ssl.SSLCertVerificationError):
            return _VERIFY_CODES.get(cause.verify_code, PolicyFailure.CERTIFICATE_UNTRUSTED)
        if isinstance(cause, ssl.SSLError):
            return PolicyFailure.TLS
        if isinstance(cause, OSError) and cause.errno in _ERRNOS:
            return _ERRNOS[cause.errno]
    return next((found for kind, found in _KINDS if any(isinstance(c, kind) for c in causes)), PolicyFailure.LOCAL)


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    """An exception and what it was raised from, outermost first; bounded, since a chain may be a loop."""
    for _ in range(20):
        if error is None:
            return
        yield error
        error = error.__cause__ or error.__context__


def _said(error: BaseException) -> str:
    return f"{type(error).__name__}: {error}".removesuffix(": ")
