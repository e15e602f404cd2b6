"""A published model of nobody: the smallest folder that an importer can read, for tests of what is around importers."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import ClassVar

from safetensors.torch import load_file, save_file

from scmodelforge._errors import DataError
from scmodelforge.hub.importers.base import Imported, LoadReport
from tests.test_hub.test_bundle import make_bundle

WEIGHTS, SETTINGS = "toy.safetensors", "toy.json"


def publish(folder: Path, *, change: float = 0.0) -> Path:
    """Write a published model; ``change`` is added to one of its weights."""
    folder.mkdir(parents=True)
    weights = {name: weight.clone() for name, weight in make_bundle().model.state_dict().items()}
    next(iter(weights.values()))[-1, -1] += change
    save_file(weights, folder / WEIGHTS)
    (folder / SETTINGS).write_text("{}\n")
    return folder


@dataclass(frozen=True)
class ToyReport(LoadReport):
    """Says what it says in words of its own."""

    def check(self, origin: str) -> None:
        if self.missing:
            msg = f"{origin}: {self.missing} missing."
            raise DataError(msg)

    def lines(self) -> list[str]:
        return [f"{len(self.matched)} weights matched"]


class ToyImporter:
    """Reads what :func:`publish` wrote, and keeps what it was asked."""

    asked: ClassVar[list[tuple[Path | None, Mapping[str, str] | None]]] = []
    missing: ClassVar[list[str]] = []

    def recognises(self, folder: Path) -> bool:
        return (folder / SETTINGS).is_file()

    def load(
        self, folder: Path, *, dictionaries: Path | None = None, sha256: Mapping[str, str] | None = None
    ) -> Imported:
        self.asked.append((dictionaries, sha256))
        bundle = make_bundle()
        weights = load_file(folder / WEIGHTS)
        bundle.model.load_state_dict(weights)
        files = {name: hashlib.sha256((folder / name).read_bytes()).hexdigest() for name in (SETTINGS, WEIGHTS)}
        told = {"imported_from": {"importer": "toy", "folder": folder.name, "files": files}}
        bundle.model.eval()
        return Imported(replace(bundle, fingerprint=told, labels={}), ToyReport(sorted(weights), self.missing))
