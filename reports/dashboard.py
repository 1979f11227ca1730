"""A read-only dashboard: the scans of a database, and each scan's report in every format.

It renders the same Report as the command line and asks the database nothing else. GET and HEAD only; no cookie, no
script, a Content-Security-Policy that allows neither. Anything but loopback has to show a token, as
`Authorization: Bearer TOKEN` or, for a browser, once as `?token=TOKEN` in each address.
"""

import secrets
from collections.abc import Awaitable, Callable, Sequence
from html import escape

from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.middleware.base import BaseHTTPMiddleware
from starlette.requests import Request
from starlette.responses import HTMLResponse, PlainTextResponse, Response
from starlette.routing import Route

from reports import as_csv, as_html, as_json, as_markdown
from reports.as_json import time_text
from reports.figures import Report
from reports.text import show
from scanner.records import ScanInfo

FORMATS = {
    "json": (as_json.render, "application/json"),
    "csv": (as_csv.render, "text/csv"),
    "md": (as_markdown.render, "text/markdown"),
    "html": (as_html.render, "text/html"),
}
HEADERS = {
    "Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-store",
}
STYLE = (
    ":root{color-scheme:light dark}body{font:16px/1.5 system-ui,sans-serif;max-width:60rem;margin:2.5rem auto;"
    "padding:0 1.25rem}table{border-collapse:collapse}th,td{text-align:left;padding:.4rem .9rem .4rem 0;"
    "border-bottom:1px solid #8884}"
)


def application(
    scans: Callable[[], Sequence[ScanInfo]], report_of: Callable[[int], Report], token: str | None
) -> Starlette:
    """The dashboard over two functions that may block; `token` None lets everybody in."""

    async def index(request: Request) -> Response:
        found = await run_in_threadpool(scans)
        return HTMLResponse(_index(found, request.query_params.get("token")))

    async def report(request: Request) -> Response:
        number, form = request.path_params["scan"], request.path_params["form"]
        if form not in FORMATS:
            raise HTTPException(404)
        known = {scan.scan for scan in await run_in_threadpool(scans)}
        if number not in known:
            raise HTTPException(404)
        render, media_type = FORMATS[form]
        text = await run_in_threadpool(lambda: render(report_of(number)))
        return Response(text, media_type=f"{media_type}; charset=utf-8")

    async def guard(request: Request, go_on: Callable[[Request], Awaitable[Response]]) -> Response:
        refused = token is not None and not _shows(request, token)
        response = PlainTextResponse("a token is needed\n", 401) if refused else await go_on(request)
        response.headers.update(HEADERS)
        return response

    return Starlette(
        routes=[Route("/", index), Route("/scans/{scan:int}/report.{form}", report)],
        middleware=[Middleware(BaseHTTPMiddleware, dispatch=guard)],
    )


def _shows(request: Request, token: str) -> bool:
    scheme, _, given = request.headers.get("authorization", "").partition(" ")
    shown = given if scheme.lower() == "bearer" else request.query_params.get("token", "")
    return secrets.compare_digest(shown.encode(), token.encode())


def _index(scans: Sequence[ScanInfo], token: str | None) -> str:
    query = f"?token={escape(token)}" if token else ""
    rows = "".join(
        f"<tr><td>{scan.scan}</td><td>{escape(show(scan.label or ''))}</td><td>{escape(scan.state)}</td>"
        f"<td>{time_text(scan.started_at)}</td><td>{_links(scan.scan, query)}</td></tr>"
        for scan in reversed(scans)
    )
    head = "".join(f'<th scope="col">{name}</th>' for name in ("scan", "label", "state", "started", "report"))
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8"><title>mxcensus</title>'
        f'<meta name="viewport" content="width=device-width, initial-scale=1"><style>{STYLE}</style></head>'
        f"<body><h1>Scans</h1><table><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table></body></html>"
    )


def _links(scan: int, query: str) -> str:
    return " ".join(f'<a href="/scans/{scan}/report.{form}{query}">{form}</a>' for form in FORMATS)
