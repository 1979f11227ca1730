"""Every software as a server: each mode on each TLS version, and each client certificate shown to it once."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any

from lab.mta import courier, exim, haraka, opensmtpd, postfix, sendmail
from lab.mta.listener import Asks, Credential, Listener
from lab.mta.process import free_port, loopback_prefix
from matrix.results import CONTROL, VERSIONS, Cell
from mxcensus.steps import now
from scanner.client_certificates import Variant
from scanner.connections import Planned, Steps
from scanner.experiment import every, experiment
from scanner.pace import Limits
from scanner.records import Endpoint, Observation
from scanner.session import SessionSettings, observe
from scanner.trials import Outcome, Trial

MODULES: Mapping[str, Any] = MappingProxyType(
    {module.__name__.rpartition(".")[2]: module for module in (postfix, exim, opensmtpd, sendmail, courier, haraka)}
)
MODES: Mapping[str, Sequence[Asks]] = MappingProxyType({"opensmtpd": (Asks.NO, Asks.INSISTS)})
"""OpenSMTPD cannot ask without insisting; all others have every mode."""

NOT_JUDGED = frozenset({("haraka", Asks.INSISTS)})
"""Which certificate is taken here is for the software's maintainers to hear first; only the control is tried."""

EHLO_NAME = "matrix.example.net"
SEED = 1
LIMITS = Limits(concurrency=8, interval=0.1, per_operator=100, rate=100)
"""The lab's own servers; spaced a little, since Courier and others limit what an address may do at once."""


async def server_cells(
    name: str, server: Credential, client_ca: Path, variants: Sequence[Variant]
) -> tuple[Cell, ...]:
    """What was seen of a software in all its modes. Raises `ServerError` where it does not run."""
    cells = await _cells(name, (Asks.DEFAULT,), server, client_ca, ())
    return (
        *cells,
        *await _cells(name, MODES.get(name, (Asks.NO, Asks.ASKS, Asks.INSISTS)), server, client_ca, variants),
    )


async def _cells(
    name: str, modes: Sequence[Asks], server: Credential, client_ca: Path, variants: Sequence[Variant]
) -> tuple[Cell, ...]:
    prefix = loopback_prefix()
    port = free_port(f"{prefix}.1")
    kinds = [(mode, version) for mode in modes for version in VERSIONS]
    listeners = {
        kind: Listener(
            f"{name}-{kind[0]}-{kind[1][-1]}.lab.test",
            f"{prefix}.{number}",
            port,
            (server,),
            kind[0],
            (kind[1],),
            None if kind[0] is Asks.DEFAULT else client_ca,
        )
        for number, kind in enumerate(kinds, start=1)
    }
    planned = []
    for (mode, _), listener in listeners.items():
        labels = [CONTROL, *(one.label for one in variants)]
        if mode in {Asks.DEFAULT, Asks.NO} or (name, mode) in NOT_JUDGED:
            labels = [CONTROL]
        planned += every([Endpoint(listener.name, listener.address, port)], labels, SEED)
    async with started(MODULES[name].running(list(listeners.values()))):
        trials = await run(planned, variants)
    kind_of = {listener.name: kind for kind, listener in listeners.items()}
    return tuple(
        _cell(*kind_of[one.endpoint.mx_host], one)
        for one in sorted(trials, key=lambda one: (one.endpoint, one.variant))
    )


@contextlib.asynccontextmanager
async def started(running: contextlib.AbstractContextManager[Any]) -> AsyncIterator[Any]:
    """A server of the lab, started and stopped in a thread, since it waits for its program."""
    with contextlib.ExitStack() as stack:
        server = await asyncio.to_thread(stack.enter_context, running)
        try:
            yield server
        finally:
            await asyncio.to_thread(stack.pop_all().close)


async def run(planned: Sequence[Planned], variants: Sequence[Variant]) -> list[Trial]:
    """The trials of an experiment in the lab, one connection each."""
    settings = {CONTROL: SessionSettings(EHLO_NAME, timeout=30.0)}
    settings |= {
        one.label: SessionSettings(EHLO_NAME, timeout=30.0, client_certificate=one.certificate) for one in variants
    }

    async def probe(endpoint: Endpoint, variant: str) -> Observation:
        return await observe(endpoint, 1, settings[variant], now)

    steps = Steps(probe, lambda _: None, lambda host: host, now, lambda: 0.0)
    return [trial async for trial in experiment(planned, LIMITS, steps, asyncio.Event())]


def _cell(mode: Asks, version: str, trial: Trial) -> Cell:
    return Cell(
        mode=mode.value,
        tls_version=version,
        variant=trial.variant,
        client_auth=trial.client_auth.value if trial.client_auth else "",
        accepted=trial.outcome is Outcome.ACCEPTED,
        said=_said(trial),
        keywords=frozenset(trial.ehlo_keywords),
    )


def _said(trial: Trial) -> str:
    """In a word or two what ended a session; never the text, which has names in it."""
    if trial.outcome is Outcome.ACCEPTED:
        return ""
    if trial.outcome is Outcome.ALERT:
        return f"alert {trial.tls_alert}"
    if trial.outcome is Outcome.REPLY:
        enhanced = trial.detail.split()[1:2]
        return " ".join([str(trial.reply_code), *(word for word in enhanced if word[:1].isdigit())])
    return trial.reason or (trial.failure.value if trial.failure else trial.outcome.value)
