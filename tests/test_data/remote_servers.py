"""Servers on this machine: one that misbehaves on demand and counts, and one that speaks S3."""

from __future__ import annotations

import hashlib
import logging
import re
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import unquote, urlsplit


@dataclass
class FaultyServer:
    """Files by path, served by ranges as buckets and good web servers do, unless ``fault`` says otherwise.

    ``fault`` is given the number of the request, from 1, and returns ``None`` or: a status, ``short`` (the body breaks
    off), ``lying`` (fewer bytes than asked for, as if they were all), ``less`` (another range than asked for),
    ``reset``, ``slow`` (half a second), ``whole`` (no ranges), ``changed`` (another ETag, If-Match is not looked at).
    """

    url: str = ""
    files: dict[str, bytes] = field(default_factory=dict)
    headers: dict[str, str] = field(default_factory=dict)
    """Sent along; ``ETag`` is of the content unless it is given here, empty for none."""
    fault: Callable[[int], str | int | None] = lambda number: None
    latency: float = 0.0
    requests: list[tuple[str, int, int]] = field(default_factory=list)
    """Path with query, first byte and end of each range asked for."""
    seen: list[dict[str, str]] = field(default_factory=list)
    """Headers of each request."""
    lock: threading.Lock = field(default_factory=threading.Lock)

    def etag(self, content: bytes) -> str:
        ends = content[: 1 << 16] + content[-(1 << 16) :]
        return f'"{hashlib.md5(ends).hexdigest()}-{len(content)}"'

    @property
    def bytes_asked(self) -> int:
        return sum(stop - start for _, start, stop in self.requests)

    def forget(self) -> None:
        with self.lock:
            self.requests.clear()
            self.seen.clear()


@contextmanager
def faulty_server(**files: bytes) -> Iterator[FaultyServer]:
    state = FaultyServer(files={f"/{name}": content for name, content in files.items()})

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True  # or each answer waits for an acknowledgement of its headers

        def log_message(self, *words) -> None:
            return

        def do_GET(self) -> None:
            _answer(self, state)

    class Server(ThreadingHTTPServer):
        daemon_threads = True
        request_queue_size = 128

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


def _answer(handler: BaseHTTPRequestHandler, state: FaultyServer) -> None:
    content = state.files.get(unquote(urlsplit(handler.path).path))
    found = re.fullmatch(r"bytes=(\d+)-(\d+)", handler.headers.get("Range", ""))
    size = len(content or b"")
    start, stop = (int(found[1]), min(int(found[2]) + 1, size)) if found else (0, size)
    with state.lock:
        state.requests.append((handler.path, start, stop))
        state.seen.append(dict(handler.headers))
        number = len(state.requests)
    if state.latency:
        time.sleep(state.latency)
    fault = state.fault(number)
    if content is None and fault is None:
        fault = 404
    etag = state.headers.get("ETag", state.etag(content or b""))
    if fault is None and handler.headers.get("If-Match") not in (None, etag):
        fault = 412
    if fault is None and start >= size:
        fault = 416
    if fault == "slow":
        time.sleep(0.5)
    if fault == "reset":
        handler.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        handler.close_connection = True
        handler.connection.close()
        return
    if isinstance(fault, int):
        _send(handler, fault, b"<Error><Code>SomeCode</Code></Error>", {})
        return
    shown = (start, stop - 1 if fault == "less" else stop)
    if fault == "whole":
        status, body, extra = 200, content, {}
    else:
        status, body = 206, content[start : stop - 1 if fault in ("lying", "less") else stop]
        extra = {"Content-Range": f"bytes {shown[0]}-{shown[1] - 1}/{size}"}
    extra |= {**state.headers, "ETag": '"other"' if fault == "changed" else etag}
    _send(handler, status, body, extra, sent=len(body) // 2 if fault == "short" else None)


def _send(handler: BaseHTTPRequestHandler, status: int, body: bytes, headers: dict, sent: int | None = None) -> None:
    handler.send_response(status)
    for name, value in {**headers, "Content-Length": str(len(body))}.items():
        if value:
            handler.send_header(name, value)
    handler.end_headers()
    handler.wfile.write(body[:sent])
    if sent is not None:
        handler.close_connection = True


@contextmanager
def s3_server() -> Iterator[tuple[str, Any]]:
    """Serve S3 on this machine; gives its address and a client."""
    import boto3
    from moto.server import ThreadedMotoServer

    logging.getLogger("werkzeug").setLevel(logging.ERROR)  # no line for each request
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    try:
        host, port = server.get_host_and_port()
        keys = {"aws_access_key_id": "testing", "aws_secret_access_key": "testing", "region_name": "us-east-1"}
        yield f"http://{host}:{port}", boto3.client("s3", endpoint_url=f"http://{host}:{port}", **keys)
    finally:
        server.stop()
