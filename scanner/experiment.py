"""Client certificates tried on servers: one connection a variant, spaced like any other, in a seeded random order.

    endpoints x variants -> draw -> connections -> Trial

A server is never spoken to but by EHLO, STARTTLS and QUIT; AUTH is never sent, whatever it offers.
"""

import asyncio
from collections.abc import AsyncGenerator, Iterable, Sequence
from contextlib import aclosing

from scanner.connections import Planned, Steps, connections
from scanner.ledger import order_key
from scanner.pace import Limits
from scanner.records import Endpoint, Failure, Observation, Stage
from scanner.trials import Outcome, Trial

CONTROL = "none"
"""The variant without a certificate: what the others are compared with."""

_AFTER_HELLO = frozenset({Stage.HANDSHAKE, Stage.EHLO_AFTER_TLS})


def every(endpoints: Iterable[Endpoint], variants: Sequence[str], seed: int) -> list[Planned]:
    """Every variant at every endpoint, in the order of a seeded hash; for machines of one's own."""
    planned = [Planned(endpoint, variant) for endpoint in endpoints for variant in variants]
    return sorted(planned, key=lambda one: _rank(seed, one))


def one_a_host(endpoints: Iterable[Endpoint], variants: Sequence[str], seed: int) -> list[Planned]:
    """One connection a host, address and variant drawn by the seed; for machines of others."""
    drawn: dict[str, Planned] = {}
    for one in every(endpoints, variants, seed):
        drawn.setdefault(one.endpoint.mx_host, one)
    return list(drawn.values())


def _rank(seed: int, one: Planned) -> int:
    return order_key(seed, f"{one.endpoint.address} {one.endpoint.port} {one.endpoint.mx_host} {one.variant}")


async def experiment(
    planned: Sequence[Planned], limits: Limits, steps: Steps, stop: asyncio.Event
) -> AsyncGenerator[Trial, None]:
    """Make each connection once and say what the server made of it."""
    async with aclosing(connections(planned, limits, steps, stop)) as all_ended:
        async for ended in all_ended:
            one = ended.planned
            if ended.observation is not None:
                yield trial_of(one.variant, ended.observation)
            else:
                why = ended.reason.value if ended.reason else None
                yield Trial(one.endpoint, one.variant, Outcome.NOT_TESTED, why)


def trial_of(variant: str, observation: Observation) -> Trial:
    """What a session says of its variant."""
    return Trial(
        endpoint=observation.endpoint,
        variant=variant,
        outcome=outcome(observation),
        started_at=observation.started_at,
        duration_ms=observation.duration_ms,
        stage=observation.stage,
        failure=observation.failure,
        client_auth=observation.client_auth,
        presented=variant != CONTROL and observation.client_ca_names is not None,
        tls_version=observation.tls_version,
        tls_alert=observation.tls_alert,
        reply_code=observation.reply_code,
        detail=observation.detail,
        ehlo_keywords=observation.ehlo_keywords_after_tls,
    )


def outcome(observation: Observation) -> Outcome:
    """First that holds; before the handshake nothing can be about a client certificate."""
    if observation.failure is None:
        return Outcome.ACCEPTED
    if observation.stage not in _AFTER_HELLO:
        return Outcome.FAILED
    if observation.tls_alert is not None:
        return Outcome.ALERT
    if observation.failure is Failure.NEGATIVE_REPLY:
        return Outcome.REPLY
    return Outcome.CLOSED if observation.failure is Failure.CLOSED else Outcome.FAILED
