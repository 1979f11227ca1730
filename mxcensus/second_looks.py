"""The opt-in second look of a scan: one more connection an endpoint, for a certificate of the other key type.

It comes after the scan's own connections, and leaves what they saw as it is.
"""

import asyncio
import random
from collections.abc import Sequence
from contextlib import aclosing
from datetime import datetime, timedelta

from mxcensus.plan import Plan
from mxcensus.steps import now, refusal_of, session_settings, watched
from mxcensus.watchers import Watcher
from scanner import certificates, operators
from scanner.connections import Planned, Steps, connections
from scanner.ledger import order_key
from scanner.records import Endpoint, Observation, ScanInfo
from storage import second_looks
from storage.database import Database
from storage.second_looks import Due, Place

PAGE = 10_000
"""Endpoints that are planned together; an address is never in two pages."""


async def look_again(
    plan: Plan, database: Database, info: ScanInfo, watchers: Sequence[Watcher], stop: asyncio.Event
) -> None:
    """Look at every endpoint of the scan that has no second look yet: all of them, or what an interrupted run left.

    An address that asks for a pause is not looked at again.
    """
    settings = {key_type: session_settings(plan, key_type=key_type) for key_type in second_looks.OTHER_KEY_TYPE}

    async def probe(endpoint: Endpoint, key_type: str) -> Observation:
        return await watched(endpoint, 1, settings[key_type], watchers, now)

    steps = Steps(probe, refusal_of(plan), operators.operator, now, random.Random().random)
    after: Place | None = None
    while not stop.is_set():
        page = await _page(database, info.scan, after)
        if not page:
            return
        after = page[-1].place
        work = planned(page, info.seed, plan.scan.limits.interval)
        async with aclosing(connections(work, plan.scan.limits, steps, stop)) as all_ended:
            async for ended in all_ended:
                if (seen := ended.observation) is not None:
                    listed = [certificates.parse(der) for der in seen.certificate_list]
                    await second_looks.write(database, info.scan, info.seed, ended.planned.variant, seen, listed)


async def _page(database: Database, scan_id: int, after: Place | None) -> list[Due]:
    """The next endpoints; the last address is left to the next page where there may be more of it."""
    page = await database.read(lambda connection: second_looks.due(connection, scan_id, after, PAGE))
    if len(page) < PAGE:
        return page
    last = page[-1].endpoint.address
    return [one for one in page if one.endpoint.address != last] or page


def planned(page: Sequence[Due], seed: int, interval: float) -> list[Planned]:
    """The connections of a page in seeded order, none before its address was left alone for the interval."""
    left: dict[str, datetime] = {}
    for one in page:
        address = one.endpoint.address
        left[address] = max(left.get(address, one.ended_at), one.ended_at)
    ordered = sorted(page, key=lambda one: order_key(seed, f"{one.endpoint.address} {one.endpoint.mx_host}"))
    pause = timedelta(seconds=interval)
    return [Planned(one.endpoint, one.key_type, left[one.endpoint.address] + pause) for one in ordered]
