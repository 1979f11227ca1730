"""Gets a text by URL or from a file, bounded in size and time; every fault is one line."""

import re
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Self

import httpx

MOST_BYTES = 200_000_000
SILENCE_SECONDS = 60.0
"""How long a server may say nothing."""
MOST_SECONDS = 600.0
"""How long one download may take."""

_URL = re.compile(r"https?://", re.IGNORECASE)


class BadDownload(ValueError):
    """What was to be had could not be had; the message is one line."""


class Downloads:
    """Downloads over one client. Use it as a context manager."""

    def __init__(self, user_agent: str) -> None:
        self._client = httpx.Client(
            timeout=SILENCE_SECONDS, follow_redirects=True, max_redirects=5, headers={"User-Agent": user_agent}
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._client.close()

    def text(self, where: str) -> str:
        """The UTF-8 text at a URL (http, https) or in a file. Raises `BadDownload`."""
        data = self._download(where) if _URL.match(where) else _read(where)
        try:
            return data.decode()
        except UnicodeDecodeError as error:
            raise BadDownload(f"{where}: not UTF-8 text") from error

    def _download(self, url: str) -> bytes:
        data = bytearray()
        until = time.monotonic() + MOST_SECONDS
        with _said(url), self._client.stream("GET", url) as response:
            if response.status_code != httpx.codes.OK:
                raise BadDownload(f"{url}: the server answered {response.status_code} {response.reason_phrase}")
            for chunk in response.iter_bytes():
                data += chunk
                if len(data) > MOST_BYTES:
                    raise BadDownload(f"{url}: more than {MOST_BYTES} bytes")
                if time.monotonic() > until:
                    raise BadDownload(f"{url}: not done after {MOST_SECONDS:g} seconds")
        return bytes(data)


@contextmanager
def _said(url: str) -> Iterator[None]:
    try:
        yield
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        raise BadDownload(f"{url}: {' '.join(str(error).split()) or type(error).__name__}") from error


def _read(where: str) -> bytes:
    try:
        with Path(where).open("rb") as file:
            data = file.read(MOST_BYTES + 1)
    except OSError as error:
        raise BadDownload(f"{where}: {error.strerror}") from error
    if len(data) > MOST_BYTES:
        raise BadDownload(f"{where}: more than {MOST_BYTES} bytes")
    return data
