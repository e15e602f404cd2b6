"""``python -m scmodelforge`` is the command line."""

from __future__ import annotations

from scmodelforge.cli.main import run

if __name__ == "__main__":
    run()
