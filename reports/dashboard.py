"""A read-only dashboard: scans, their figures and classes, live progress, every format to download.

It renders the same Report as the command line and asks the database nothing else but where a scan stands. GET and
HEAD only; no cookie; scripts and styles are our own files, as the Content-Security-Policy says. Without a token it
answers on names of loopback only, so that no other site's page can reach it by a name of its own (DNS rebinding);
with one, every request has to show it, as `Authorization: Bearer TOKEN` or, for a browser, as `?token=TOKEN`.
"""

import ipaddress
import secrets
import threading
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from functools import partial
from importlib import resources
from typing import Protocol

from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.middleware.base import BaseHTTPMiddleware
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, PlainTextResponse, Response
from starlette.routing import Route

from reports import as_csv, as_html, as_json, as_markdown, charts, layout, pages
from reports.definitions import Unit
from reports.figures import Figure, Report
from scanner.records import ScanInfo
from storage.standing import Standing

FORMATS: Mapping[str, tuple[Callable[[Report], str], str]] = {
    "json": (as_json.render, "application/json"),
    "csv": (as_csv.render, "text/csv"),
    "md": (as_markdown.render, "text/markdown"),
    "html": (as_html.render, "text/html"),
}
IMAGES: Mapping[str, tuple[Callable[[Figure], str | bytes], str]] = {
    "svg": (charts.svg, "image/svg+xml"),
    "png": (charts.png, "image/png"),
}
STATIC = {"page.css": "text/css", "dashboard.css": "text/css", "dashboard.js": "text/javascript"}
HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; style-src 'self'; script-src 'self'; connect-src 'self'; img-src data:; "
        "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-store",
}
PAGE_POLICY = "default-src 'none'; style-src 'unsafe-inline'; img-src data:; frame-ancestors 'none'"
"""For the self-contained page, whose styles are its own and which has no script."""

KEPT_SECONDS = {True: 600.0, False: 5.0}
"""How long a report is kept for further pages: long once its scan has ended, else not."""


class Source(Protocol):
    """What the dashboard shows; the functions may block."""

    def scans(self) -> Sequence[ScanInfo]:
        """Every scan, the oldest first."""

    def report(self, scan: int) -> Report:
        """All figures of a scan."""

    def standing(self, scan: int) -> Standing:
        """Where a scan stands."""


def application(source: Source, token: str | None) -> Starlette:
    """The dashboard over a source; `token` None answers whoever asks a name of loopback."""
    here = _Dashboard(source)

    async def guard(request: Request, go_on: Callable[[Request], Awaitable[Response]]) -> Response:
        if token is None and not _names_loopback(request.headers.get("host", "")):
            response: Response = PlainTextResponse("this dashboard answers on loopback only\n", 421)
        elif token is not None and not _shows(request, token):
            response = PlainTextResponse("a token is needed\n", 401, {"WWW-Authenticate": "Bearer"})
        else:
            response = await go_on(request)
        for name, value in HEADERS.items():
            response.headers.setdefault(name, value)
        return response

    return Starlette(
        routes=[
            Route("/", here.index),
            Route("/scans/{scan:int}", here.scan),
            Route("/scans/{scan:int}/progress.json", here.progress),
            Route("/scans/{scan:int}/report.{form}", here.report),
            Route("/scans/{scan:int}/figures/{figure}.{form}", here.image),
            Route("/scans/{scan:int}/figures/{figure}", here.figure),
            Route("/scans/{scan:int}/classes/{field}", here.classes),
            Route("/static/{name}", here.static),
        ],
        middleware=[Middleware(BaseHTTPMiddleware, dispatch=guard)],
    )


class _Dashboard:
    """The answers to requests, each read from the source."""

    def __init__(self, source: Source) -> None:
        self._source = source
        self._kept: dict[int, tuple[float, str, Report]] = {}
        self._standings: dict[int, tuple[float, Standing]] = {}
        self._counting, self._asking = threading.Lock(), threading.Lock()

    async def index(self, request: Request) -> Response:
        scans = await run_in_threadpool(self._source.scans)
        return HTMLResponse(await run_in_threadpool(pages.index, scans, _links(request)))

    async def scan(self, request: Request) -> Response:
        info, standing = await self._info(request), await self._standing(request)
        report = await self._report(request)
        return HTMLResponse(await run_in_threadpool(pages.scan, info, report, standing, _links(request)))

    async def progress(self, request: Request) -> Response:
        info = await self._info(request)
        return JSONResponse(pages.progress(info, await self._standing(request)))

    async def report(self, request: Request) -> Response:
        form = request.path_params["form"]
        if form not in FORMATS:
            raise HTTPException(404)
        render, media_type = FORMATS[form]
        text = await run_in_threadpool(render, await self._report(request))
        policy = {"Content-Security-Policy": PAGE_POLICY} if form == "html" else {}
        return Response(text, media_type=f"{media_type}; charset=utf-8", headers=policy)

    async def image(self, request: Request) -> Response:
        form = request.path_params["form"]
        shown = pages.in_unit(await self._report(request), request.path_params["figure"], _unit(request))
        if form not in IMAGES or shown is None or not shown.rows:
            raise HTTPException(404)
        draw, media_type = IMAGES[form]
        return Response(await run_in_threadpool(draw, shown), media_type=media_type)

    async def figure(self, request: Request) -> Response:
        report = await self._report(request)
        name = request.path_params["figure"]
        return await _page_of(pages.figure, report, name, _unit(request), layout.chart, _links(request))

    async def classes(self, request: Request) -> Response:
        report = await self._report(request)
        value = request.query_params.get("value", "")
        return await _page_of(pages.classes, report, request.path_params["field"], value, _links(request))

    async def static(self, request: Request) -> Response:
        name = request.path_params["name"]
        if name not in STATIC:
            raise HTTPException(404)
        text = (resources.files("reports") / "data" / name).read_text(encoding="utf-8")
        return Response(text, media_type=f"{STATIC[name]}; charset=utf-8")

    async def _info(self, request: Request) -> ScanInfo:
        number = request.path_params["scan"]
        scans = await run_in_threadpool(self._source.scans)
        info = next((scan for scan in scans if scan.scan == number), None)
        if info is None:
            raise HTTPException(404)
        return info

    async def _report(self, request: Request) -> Report:
        return await run_in_threadpool(self._counted, await self._info(request))

    def _counted(self, info: ScanInfo) -> Report:
        """The report of a scan, counted once for all who ask at the same time."""
        with self._counting:
            ended = info.state not in pages.UNFINISHED
            counted_at, manifest, report = self._kept.get(info.scan, (-1e9, "", None))
            if report is None or manifest != repr(info) or time.monotonic() - counted_at > KEPT_SECONDS[ended]:
                report = self._source.report(info.scan)
                self._kept = {info.scan: (time.monotonic(), repr(info), report)}  # one: a report may be large
            return report

    async def _standing(self, request: Request) -> Standing:
        return await run_in_threadpool(self._stands, (await self._info(request)).scan)

    def _stands(self, scan: int) -> Standing:
        """Where a scan stands, asked at most once a second however many look on."""
        with self._asking:
            asked_at, standing = self._standings.get(scan, (-1e9, None))
            if standing is None or time.monotonic() - asked_at > 1.0:
                standing = self._source.standing(scan)
                self._standings = {scan: (time.monotonic(), standing)}
            return standing


async def _page_of(make: Callable[..., str | None], *arguments: object) -> Response:
    page = await run_in_threadpool(partial(make, *arguments))
    if page is None:
        raise HTTPException(404)
    return HTMLResponse(page)


def _links(request: Request) -> pages.Links:
    return pages.Links(request.query_params.get("token"))


def _unit(request: Request) -> Unit | None:
    named = request.query_params.get("unit")
    if named is None:
        return None
    if named not in list(Unit):
        raise HTTPException(404)
    return Unit(named)


def _shows(request: Request, token: str) -> bool:
    scheme, _, given = request.headers.get("authorization", "").partition(" ")
    shown = given if scheme.lower() == "bearer" else request.query_params.get("token", "")
    return secrets.compare_digest(shown.encode(), token.encode())


def _names_loopback(host: str) -> bool:
    """Whether a Host field names this machine's loopback: `localhost`, `127.0.0.1:8025`, `[::1]:8025`."""
    name = host.partition("]")[0].removeprefix("[") if host.startswith("[") else host.partition(":")[0]
    try:
        return ipaddress.ip_address(name).is_loopback
    except ValueError:
        return name == "localhost"
