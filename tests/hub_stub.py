"""A hub on this machine: the few addresses of the Hugging Face hub that its client asks, repositories in memory.

It shows that the client is called as it should be, and what a user reads when something goes wrong. It does not show
that the hub itself behaves the same.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from tests.hub_server import Handler
from tests.hub_state import READ_TOKEN, TOKEN, HubStub, sha256

__all__ = ["PUSHES", "READ_TOKEN", "TOKEN", "HubStub", "hub_stub", "sha256", "use_hub"]

#: Of the client itself, when it uploads, with a newer version of what it speaks HTTP with.
PUSHES = pytest.mark.filterwarnings("ignore:Use 'content=:DeprecationWarning")


@contextmanager
def hub_stub() -> Iterator[HubStub]:
    """Run a hub until the end of the block."""
    stub = HubStub()

    class Server(ThreadingHTTPServer):
        daemon_threads = True

        def handle_error(self, *words: object) -> None:
            return  # a client that went away

    server = Server(("127.0.0.1", 0), type("Own", (Handler,), {"stub": stub}))
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    stub.url = f"http://127.0.0.1:{server.server_address[1]}"
    try:
        yield stub
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def use_hub(patch: Any, url: str, home: Path, *, token: str | None = TOKEN) -> None:
    """Have the client of the hub ask a stub, as if it had been started with these environment variables.

    It reads HF_ENDPOINT and its like once, when it is imported.
    """
    from huggingface_hub import constants, file_download

    template = url + "/{repo_id}/resolve/{revision}/{filename}"
    patch.setattr(constants, "ENDPOINT", url)
    patch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
    patch.setattr(file_download, "HUGGINGFACE_CO_URL_TEMPLATE", template, raising=False)
    for name, path in {"HF_HUB_CACHE": "hub", "HF_TOKEN_PATH": "token", "HF_STORED_TOKENS_PATH": "tokens"}.items():
        patch.setattr(constants, name, str(home / path))
    patch.setattr(constants, "HF_HUB_DISABLE_XET", True)
    patch.setattr(constants, "HF_HUB_DISABLE_TELEMETRY", True)
    patch.setattr(constants, "HF_HUB_OFFLINE", False)
    patch.setattr(constants, "HF_HUB_DISABLE_PROGRESS_BARS", True)
    patch.delenv("HF_TOKEN", raising=False)
    if token is not None:
        patch.setenv("HF_TOKEN", token)
