"""What a model reads of a data set: some of its genes, scaled to [0, 1] where they are not there already."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from scmodelforge._errors import DataError, listed
from scmodelforge._json_files import read_json_object
from scmodelforge.connectome.data import RegionPairDataset, between, replaced
from scmodelforge.training._files import write_text

__all__ = ["ModelInputs", "quiet"]

_FILE = "inputs.json"
_LISTED = 5
_SAME_GENES = "Give all genes of the model under the same names."


@dataclass(frozen=True)
class ModelInputs:
    """Genes of a model, and the expression that is 0 and 1 for it.

    Attributes
    ----------
    genes
        Names, in the order of the model.
    low, high
        Of each gene, shape (G,); ``None`` where expression is taken as it is.
    """

    genes: list[str]
    low: np.ndarray | None = None
    high: np.ndarray | None = None

    @classmethod
    def fitted(cls, data: RegionPairDataset, regions: np.ndarray, max_genes: int | None) -> ModelInputs:
        """Choose the genes that vary most over some regions, and scale by these if expression leaves [0, 1]."""
        x = data.X.numpy()[regions]
        columns = np.arange(data.num_genes)
        if max_genes is not None:
            columns = np.sort(np.argsort(-x.var(axis=0), kind="stable")[:max_genes])
        genes = [data.valid_genes[column] for column in columns]
        if x.min() >= 0 and x.max() <= 1:
            return cls(genes)
        return cls(genes, x[:, columns].min(axis=0), x[:, columns].max(axis=0))

    def apply(self, data: RegionPairDataset, where: str = "the data set") -> RegionPairDataset:
        """Return the same pairs as the model reads them.

        Raises
        ------
        DataError
            If genes are missing; ``where`` is what lacks them.
        """
        place = {gene: column for column, gene in enumerate(data.valid_genes)}
        lacking = [gene for gene in self.genes if gene not in place]
        if lacking:
            is_turned = len(set(self.genes).intersection(data.region_names)) > len(self.genes) // 2
            hint = "Its rows are named like genes: transpose it." if is_turned else _SAME_GENES
            msg = (
                f"{where} lacks {len(lacking):,} of the {len(self.genes):,} genes of the model: "
                f"{listed(lacking, _LISTED)}; it has {data.num_genes:,}, named like '{data.valid_genes[0]}'. {hint}"
            )
            raise DataError(msg)
        x = data.X.numpy()[:, [place[gene] for gene in self.genes]]
        if self.low is not None and self.high is not None:
            x = between(x, self.low, self.high)
        with quiet():  # it was said of the whole data set
            return replaced(data, x, self.genes)

    def save(self, folder: Path) -> None:
        """Write them into the folder of a model."""
        facts = {
            "genes": self.genes,
            "low": None if self.low is None else self.low.tolist(),
            "high": None if self.high is None else self.high.tolist(),
        }
        write_text(folder / _FILE, json.dumps(facts, indent=1) + "\n")

    @classmethod
    def load(cls, folder: Path) -> ModelInputs | None:
        """Return those of the folder of a model; ``None`` of one that was saved without."""
        if not (folder / _FILE).is_file():
            return None
        facts = read_json_object(folder / _FILE, "train the model again")
        try:
            low, high = (None if facts[name] is None else np.asarray(facts[name], float) for name in ("low", "high"))
            return cls([str(gene) for gene in facts["genes"]], low, high)
        except (KeyError, TypeError, ValueError) as problem:
            msg = f"{folder / _FILE}: not what a run writes ({problem}); train the model again."
            raise DataError(msg) from problem


def is_scaled(data: RegionPairDataset) -> bool:
    """Tell whether all expression is in [0, 1]."""
    return bool(data.X.min() >= 0 and data.X.max() <= 1)


@contextmanager
def quiet() -> Iterator[None]:
    """Leave unsaid in the body what was said of the same data or the same model before."""
    logger = logging.getLogger("scmodelforge.connectome")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(level)
