"""A downloader for pooch that goes on where a broken download stopped."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import requests

from mptt.errors import MPTTError
from mptt.files import write_atomically

Bytes = Callable[[str, int, int | None], None]  # given the file, bytes so far, and of how many

_BROKEN = (requests.ConnectionError, requests.Timeout, requests.exceptions.ChunkedEncodingError)
_PIECE = 1 << 16  # what is lost at most where a connection breaks


class Resuming:
    """Downloads into FILE.part, by HTTP ranges where the server serves them, from the start where it does not.

    A part of another version of the file, by its ETag or date, is begun again.

    Args:
        size: of the file, where it is known.
        shown: called as bytes come in.
        attempts: in a row without a byte more, before it gives up.
        pause: seconds before the next attempt; twice as long each time.
        timeout: seconds without an answer after which a connection is broken.
    """

    def __init__(
        self,
        size: int | None,
        shown: Bytes = lambda *_: None,
        attempts: int = 5,
        pause: float = 2.0,
        timeout: float = 60.0,
    ) -> None:
        self.size, self.shown, self.attempts, self.pause, self.timeout = size, shown, attempts, pause, timeout
        self.part = self.version = Path()

    def __call__(self, url: str, output_file: str, pooch: Any) -> None:
        """Download, as pooch asks for it.

        Raises:
            MPTTError: the server refuses, or the connection breaks again and again.
        """
        name = url.partition("?")[0].removesuffix("/content").rpartition("/")[2]
        self.part = Path(output_file).parent / f"{name}.part"
        self.version = self.part.with_name(self.part.name + ".version")
        failed = 0
        while True:
            before = self._have()
            try:
                self._fetch(url, name)
                break
            except _BROKEN as error:
                failed = 1 if self._have() > before else failed + 1
                if failed >= self.attempts:
                    have = f"; {self._have():,} bytes are kept, and the same line goes on" if self._have() else ""
                    raise MPTTError(f"{url} cannot be read ({_reason(error)}){have}.") from error
                time.sleep(self.pause * 2 ** (failed - 1))
        self.version.unlink(missing_ok=True)
        self.part.replace(output_file)

    def _have(self) -> int:
        return self.part.stat().st_size if self.part.exists() else 0

    def _fetch(self, url: str, name: str) -> None:
        have = self._have()
        headers = {"Accept-Encoding": "identity"}
        if self.size is not None and have >= self.size:
            if have == self.size:
                return
            self.part.unlink()
            have = 0
        if have:
            headers["Range"] = f"bytes={have}-"
            if self.version.exists():
                headers["If-Range"] = self.version.read_text()
        with requests.get(url, headers=headers, stream=True, timeout=self.timeout) as answer:
            if answer.status_code == 416:  # the part is no part of what is there
                self.part.unlink()
                raise requests.ConnectionError("the server has no such range")
            if answer.status_code == 429 or answer.status_code >= 500:
                raise requests.ConnectionError(f"the server answers {answer.status_code} {answer.reason}")
            if answer.status_code not in (200, 206):
                raise MPTTError(f"{url} cannot be had: the server answers {answer.status_code} {answer.reason}.")
            goes_on = answer.status_code == 206 and answer.headers.get("Content-Range", "").startswith(f"bytes {have}-")
            if answer.status_code == 206 and not goes_on:
                self.part.unlink(missing_ok=True)
                raise requests.ConnectionError("the server sent another range than was asked for")
            self._keep_version(answer)
            with self.part.open("ab" if goes_on else "wb") as file:
                for piece in answer.iter_content(_PIECE):
                    file.write(piece)
                    self.shown(name, file.tell(), self.size)
        if self.size is not None and self._have() < self.size:
            raise requests.ConnectionError(f"it ended after {self._have():,} of {self.size:,} bytes")

    def _keep_version(self, answer: requests.Response) -> None:
        """What tells this file from a later one; without it only the checksum does."""
        tag = answer.headers.get("ETag", "")
        version = tag if tag and not tag.startswith("W/") else answer.headers.get("Last-Modified")
        if version:
            write_atomically(self.version, version)
        else:
            self.version.unlink(missing_ok=True)


def _reason(error: Exception) -> str:
    text = str(error)
    for known in ("Connection refused", "Name or service not known", "Temporary failure in name resolution"):
        if known in text:
            return known.lower()
    return text[:200]
