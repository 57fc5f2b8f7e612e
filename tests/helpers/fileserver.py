"""A server on this machine that serves a record and its files, and fails as it is told to."""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


class FileServer(ThreadingHTTPServer):
    """Serves `/api/records/1` and the files in it.

    `faults` are taken one at a time, by requests for files: ("break", bytes sent), ("short", bytes sent and promised),
    ("status", code), ("range", start that is sent instead).
    """

    daemon_threads = True

    def __init__(self, files: dict[str, bytes]) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.files = files
        self.faults: list[tuple[str, int]] = []
        self.asked: list[str | None] = []  # ranges
        self.serves_ranges = True
        self.tag: str | None = '"one"'
        self.sums: dict[str, str] = {}
        self.sizes: dict[str, int] = {}
        for name, content in files.items():
            self.put(name, content)

    def put(self, name: str, content: bytes) -> None:
        self.files[name] = content
        self.sums[name], self.sizes[name] = hashlib.md5(content).hexdigest(), len(content)

    @property
    def base(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"

    def record(self) -> dict[str, Any]:
        return {
            "files": [
                {
                    "key": name,
                    "size": self.sizes[name],
                    "checksum": f"md5:{self.sums[name]}",
                    "links": {"self": f"{self.base}/api/records/1/files/{name}/content"},
                }
                for name in self.files
            ]
        }


class _Handler(BaseHTTPRequestHandler):
    server: FileServer

    def log_message(self, *_: Any) -> None:
        pass

    def do_GET(self) -> None:
        if self.path == "/api/records/1":
            self._send(200, json.dumps(self.server.record()).encode())
            return
        name = self.path.removesuffix("/content").rpartition("/")[2]
        self.server.asked.append(self.headers.get("Range"))
        fault, number = self.server.faults.pop(0) if self.server.faults else ("", 0)
        if fault == "status":
            self._send(number, b"no")
        elif name not in self.server.files:
            self._send(404, b"no")
        else:
            self._file(self.server.files[name], fault, number)

    def _file(self, content: bytes, fault: str, number: int) -> None:
        wanted = self.headers.get("Range")
        same = self.headers.get("If-Range") in (None, self.server.tag)
        headers = {"ETag": self.server.tag} if self.server.tag else {}
        code, start = 200, 0
        if wanted and self.server.serves_ranges and same:
            code, start = 206, int(wanted.removeprefix("bytes=").rstrip("-"))
            if start >= len(content):
                self._send(416, b"")
                return
            start = number if fault == "range" else start
            headers["Content-Range"] = f"bytes {start}-{len(content) - 1}/{len(content)}"
        body = content[start:]
        if fault == "short":
            body = body[:number]
        self._send(code, body, headers, number if fault == "break" else None)

    def _send(self, code: int, body: bytes, headers: dict[str, str] | None = None, only: int | None = None) -> None:
        self.send_response(code)
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body[:only])


@contextmanager
def serving(files: dict[str, bytes]) -> Iterator[FileServer]:
    with FileServer(files) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()
