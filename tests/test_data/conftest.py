"""A file and a server that has it, for the tests of remote files."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from .remote_cells import write_cells
from .remote_servers import FaultyServer, faulty_server


@pytest.fixture(scope="module")
def path(tmp_path_factory) -> Path:
    """Return a file of many small chunks."""
    return write_cells(tmp_path_factory.mktemp("remote") / "cells.h5ad")


@pytest.fixture
def server(path) -> Iterator[FaultyServer]:
    """Serve the file as ``lung/cells.h5ad``."""
    with faulty_server(**{"lung/cells.h5ad": path.read_bytes()}) as server:
        yield server
