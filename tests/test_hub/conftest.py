from __future__ import annotations

import pytest

from tests.hub_stub import hub_stub, use_hub


@pytest.fixture
def hub(tmp_path, monkeypatch):
    """Return a hub on this machine, which the hub's client asks in this test; caches are empty."""
    from huggingface_hub.utils import disable_progress_bars

    disable_progress_bars()
    monkeypatch.setenv("SCMODELFORGE_CACHE", str(tmp_path / "cache"))
    with hub_stub() as stub:
        use_hub(monkeypatch, stub.url, tmp_path / "hf")
        yield stub


@pytest.fixture
def impatient(monkeypatch):
    """Let the client try again at once: what it waits between tries is its own affair."""
    from huggingface_hub import file_download
    from huggingface_hub.utils import _http

    for module in (file_download, _http):
        monkeypatch.setattr(module.time, "sleep", lambda seconds: None)
