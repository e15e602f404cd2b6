"""A server on this machine that gives ranges of one file, and misbehaves as it is told."""

from __future__ import annotations

import hashlib
import re
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


@dataclass
class FileServer:
    """A file under ``/cells.h5ad`` and, as on a mirror, under ``/data/`` by any name.

    ``faults`` are what happens to the next requests, one each: a status, ``cut`` (half of the body arrives), ``stall``
    (half of it arrives, and nothing more for a second), ``moved`` (to the other address), ``packed``, or ``None``.
    """

    content: bytes
    url: str = ""
    faults: list[str | int | None] = field(default_factory=list)
    gives_ranges: bool = True
    heeds_if_range: bool = True
    gives_etag: bool = True
    announced: int | None = None
    """Size that is named instead of the true one."""
    seen: list[tuple[str, str | None, str | None]] = field(default_factory=list)
    """Path, range and If-Range of each request."""

    @property
    def address(self) -> str:
        return f"{self.url}/cells.h5ad"

    @property
    def etag(self) -> str:
        return f'"{hashlib.md5(self.content).hexdigest()}"'

    @property
    def ranges(self) -> list[str | None]:
        return [each[1] for each in self.seen]


@contextmanager
def file_server(content: bytes) -> Iterator[FileServer]:
    state = FileServer(content)

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *words) -> None:
            return

        def do_GET(self) -> None:
            state.seen.append((self.path, self.headers.get("Range"), self.headers.get("If-Range")))
            _answer(self, state, state.faults.pop(0) if state.faults else None)

    class Server(ThreadingHTTPServer):
        daemon_threads = True

        def handle_error(self, *words) -> None:
            return  # a client that went away

    server = Server(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    state.url = f"http://127.0.0.1:{server.server_address[1]}"
    try:
        yield state
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def _answer(handler: BaseHTTPRequestHandler, state: FileServer, fault: str | int | None) -> None:
    if handler.path.partition("?")[0] != "/cells.h5ad" and not handler.path.startswith("/data/"):
        fault = 404
    if isinstance(fault, int):
        _send(handler, fault, b"no", {})
        return
    if fault == "moved":
        _send(handler, 302, b"", {"Location": f"{state.url}/data/tiny.h5ad"})
        return
    content, headers = state.content, {"ETag": state.etag} if state.gives_etag else {}
    found = re.fullmatch(r"bytes=(\d+)-", handler.headers.get("Range", "")) if state.gives_ranges else None
    if found and state.heeds_if_range and handler.headers.get("If-Range") not in (None, headers.get("ETag")):
        found = None
    start = int(found[1]) if found else 0
    if found and start >= len(content):
        _send(handler, 416, b"", {**headers, "Content-Range": f"bytes */{len(content)}"})
        return
    if found:
        headers["Content-Range"] = f"bytes {start}-{len(content) - 1}/{len(content)}"
    if fault == "packed":
        headers["Content-Encoding"] = "gzip"
    sent = (len(content) - start) // 2 if fault in ("cut", "stall") else None
    _send(handler, 206 if found else 200, content[start:], headers, sent=sent, announced=state.announced)
    if fault == "stall":
        time.sleep(1)


def _send(
    handler: BaseHTTPRequestHandler,
    status: int,
    body: bytes,
    headers: dict[str, str],
    *,
    sent: int | None = None,
    announced: int | None = None,
) -> None:
    handler.send_response(status)
    for name, value in {**headers, "Content-Length": str(announced or len(body))}.items():
        handler.send_header(name, value)
    handler.end_headers()
    handler.wfile.write(body[:sent])
    handler.wfile.flush()
    if sent is not None or announced is not None:
        handler.close_connection = True
