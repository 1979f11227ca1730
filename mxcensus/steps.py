"""The functions that a scan's steps are made of, bound to one plan: routing, sessions, and who is not contacted."""

import asyncio
import contextlib
import random
import socket
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from functools import lru_cache

from mxcensus import __version__, explain
from mxcensus.inputs import default_ehlo_name
from mxcensus.plan import Plan
from mxcensus.watchers import Watcher
from scanner import addresses, mail_policy, operators, routing
from scanner.policy_phase import Fetch, PolicySteps
from scanner.policy_records import StsPolicy
from scanner.records import Endpoint, MailRouting, Observation, Reason
from scanner.resolver import Resolver
from scanner.scan import Steps
from scanner.session import SessionSettings, observe
from scanner.tls import ClientCertificate
from scanner.trust import Purpose


def session_settings(
    plan: Plan, certificate: ClientCertificate | None = None, key_type: str | None = None
) -> SessionSettings:
    """How every session of a plan behaves; `certificate` is presented where a server asks.

    With a `key_type` only a certificate of that type is asked for.
    """
    return SessionSettings(
        ehlo_name=plan.ehlo_name or default_ehlo_name(),
        timeout=plan.timeout,
        transcript=explain.transcript if plan.verbose else None,
        client_certificate=certificate,
        key_type=key_type,
    )


async def watched(
    endpoint: Endpoint,
    attempt: int,
    settings: SessionSettings,
    watchers: Sequence[Watcher],
    clock: Callable[[], datetime],
) -> Observation:
    """One session, of which the watchers are told whatever becomes of it."""
    began = clock()
    try:
        seen = await observe(endpoint, attempt, settings, clock)
    except asyncio.CancelledError:
        for watcher in watchers:
            watcher.cut_off(endpoint, attempt, began)
        raise
    for watcher in watchers:
        watcher.ended(seen)
    return seen


def make_steps(
    plan: Plan,
    resolver: Resolver,
    watchers: Sequence[Watcher] = (),
    fetch: Fetch | None = None,
    *,
    policies: bool = True,
    clock: Callable[[], datetime] | None = None,
) -> Steps:
    """`watchers` are told of every connection; without `policies` only the routing of a domain is asked for.

    `fetch` fetches MTA-STS policies; without it none are. `clock` gives aware UTC, by default this machine's.
    """
    settings = session_settings(plan)
    clock = clock or now

    async def route(name: str) -> MailRouting:
        found = await routing.route(name, resolver.query_many)
        return await mail_policy.ask(found, resolver.query_many, plan.scan.port) if policies else found

    async def probe(endpoint: Endpoint, attempt: int) -> Observation:
        seen = await watched(endpoint, attempt, settings, watchers, clock)
        if plan.verbose:
            explain.outcome(seen)
        return seen

    return Steps(
        route=route,
        probe=probe,
        refusal=refusal_of(plan),
        operator_of=operators.operator,
        now=clock,
        jitter=random.Random().random,
        policies=None if fetch is None else policy_steps(plan, resolver, watchers, fetch),
    )


def policy_steps(plan: Plan, resolver: Resolver, watchers: Sequence[Watcher], fetch: Fetch) -> PolicySteps:
    """How MTA-STS policies are fetched; a name that opted out is neither looked up nor asked."""

    async def fetched(domain: str, address: str) -> StsPolicy:
        policy = await fetch(domain, address)
        for watcher in watchers:
            watcher.fetched(policy)
        return policy

    return PolicySteps(
        lookup=resolver.query_many,
        fetch=fetched,
        excluded=plan.exclusions.host,
        refusal=refusal_of(plan),
        now=now,
        port=plan.mta_sts_port,
    )


@asynccontextmanager
async def fetching(plan: Plan) -> AsyncIterator[Fetch | None]:
    """The function that fetches policies, for as long as the block lasts; None where the plan wants none."""
    if not plan.mta_sts:
        yield None
        return
    from scanner.policy_fetch import Fetcher  # noqa: PLC0415  # httpx takes a while to import, and few scans need it

    roots = [
        root.certificate
        for root in plan.trust.roots.values()
        if any(Purpose.SERVER in purposes for purposes in root.purposes.values())
    ]
    agent = f"mxcensus/{__version__} ({plan.contact or 'no contact given'})"
    async with Fetcher(roots, timeout=plan.timeout, user_agent=agent, now=now, port=plan.mta_sts_port) as fetcher:
        yield fetcher.fetch


def refusal_of(plan: Plan) -> Callable[[Endpoint], Reason | None]:
    """Why an endpoint must not be contacted: an opt-out, or an address that is nobody's mail server."""
    special = lru_cache(maxsize=100_000)(is_special)

    def refusal(endpoint: Endpoint) -> Reason | None:
        if plan.exclusions.address(endpoint.address) or plan.exclusions.host(endpoint.mx_host):
            return Reason.EXCLUDED
        if not plan.allow_special_purpose and special(endpoint.address):
            return Reason.SPECIAL_PURPOSE
        return None

    return refusal


def is_special(address: str) -> bool:
    """Whether an address is special-purpose, or this machine's own."""
    return addresses.special_purpose(address) is not None or _is_own(address)


def _is_own(address: str) -> bool:
    """Whether the address is one of this machine: only those can be bound."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    try:
        with socket.socket(family, socket.SOCK_DGRAM) as sock:
            sock.bind((address, 0))
    except OSError:
        return False
    return True


def source_addresses() -> list[str]:
    """The addresses of this machine that the Internet would see us come from, unless something translates them.

    Connecting a UDP socket sends nothing: the system only looks up its route. Both addresses are for documents.
    """
    found = []
    for family, anywhere in ((socket.AF_INET, "192.0.2.1"), (socket.AF_INET6, "2001:db8::1")):
        with contextlib.suppress(OSError), socket.socket(family, socket.SOCK_DGRAM) as sock:
            sock.connect((anywhere, 9))
            found.append(str(sock.getsockname()[0]))
    return found


def now() -> datetime:
    return datetime.now(UTC)
