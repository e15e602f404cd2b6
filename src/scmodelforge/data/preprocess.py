"""What is done to the counts of each cell before tokens are made of them."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Literal

import numpy as np
from pydantic import ValidationError

from scmodelforge._errors import ConfigError, DataError
from scmodelforge.config.schema import PreprocessingConfig
from scmodelforge.data._kernels import scaled
from scmodelforge.data.protocols import CellSource
from scmodelforge.data.size_factors import fit_size_factors
from scmodelforge.data.types import CellBlock

__all__ = ["Preprocessor"]

_LINEAR = ("counts", "normalized")
#: Kinds of values that each setting is meaningful for.
_NEEDS = {
    "normalize": _LINEAR,
    "log1p": _LINEAR,
    "hvg_selection": _LINEAR,
    "min_counts_per_cell": _LINEAR,
    "max_counts_per_cell": _LINEAR,
    "min_genes_per_cell": (*_LINEAR, "log1p"),
    "max_genes_per_cell": (*_LINEAR, "log1p"),
    "min_cells_per_gene": (*_LINEAR, "log1p"),
}


class Preprocessor:
    """Normalisation and logarithm, as the settings ask for them, cell by cell.

    What comes out is a function of the settings, the block and, with ``normalize: scran``, the cells' size factors,
    which :meth:`fitted` makes of the whole source. No other state is fitted or saved: factors of training cells mean
    nothing to other cells.

    Parameters
    ----------
    config
        The settings. Limits on cells and genes and ``hvg_selection`` act before training, not here.
    factors
        Size factor of each cell of the source that blocks come from, shape (N,), float32.
    """

    def __init__(self, config: PreprocessingConfig, *, factors: np.ndarray | None = None) -> None:
        self.config = config
        self.factors = factors

    @property
    def scale(self) -> Literal["counts", "library_size", "scran", "log1p"]:
        """What comes out when counts go in."""
        if self.config.log1p:
            return "log1p"
        return self.config.normalize or "counts"

    def fitted(self, source: CellSource) -> Preprocessor:
        """Return a preprocessor for the cells of a source, one pass over which is needed for ``normalize: scran``.

        Raises
        ------
        DataError
            If size factors cannot be made of these cells.
        """
        if self.config.normalize != "scran":
            return self
        return Preprocessor(self.config, factors=fit_size_factors(source))

    def __call__(self, block: CellBlock) -> CellBlock:
        """Return the block with prepared values, float32. The total of a cell is over all genes of its file.

        A cell without counts keeps its zeros. The block given is not changed.

        Raises
        ------
        ConfigError
            If size factors are needed and there are none.
        """
        if self.scale == "counts":
            return block
        return replace(block, data=scaled(block.data, block.indptr, self._multipliers(block), log1p=self.config.log1p))

    def _multipliers(self, block: CellBlock) -> np.ndarray:
        """Return what the values of each cell are multiplied by, shape (n,), float64."""
        if self.config.normalize is None:
            return np.ones(len(block))
        if self.config.normalize == "library_size":
            totals = block.totals()
            return np.divide(self.config.target_sum, totals, out=np.ones_like(totals), where=totals > 0)
        if self.factors is None:
            msg = (
                "data.preprocessing.normalize is 'scran', which needs the size factors of all cells of a source; "
                "use what Preprocessor.fitted(source) returns."
            )
            raise ConfigError(msg)
        return 1.0 / self.factors[block.positions].astype(np.float64)

    def check(self, kind: str, *, name: str = "the data") -> None:
        """Refuse settings that make no sense for values of this kind.

        Parameters
        ----------
        kind
            What the values are, as :func:`scmodelforge.data.inspect.describe_values` says.
        name
            What messages call the data.

        Raises
        ------
        ConfigError
            If a setting is not off that needs values linear in the counts, whole counts or values that are not
            negative, and the data have others.
        """
        for setting, kinds in _NEEDS.items():
            value = getattr(self.config, setting)
            off = type(self.config).model_fields[setting].default
            if value != off and kind not in kinds:
                path = f"data.preprocessing.{setting}"
                msg = (
                    f"{path} is {_yaml(value)}, which needs counts, but the values of {name} are {kind}; "
                    f"name the layer that holds counts in data.layer, or set {path} to {_yaml(off)}."
                )
                raise ConfigError(msg)

    def to_dict(self) -> dict[str, Any]:
        """Return the settings as plain values."""
        return self.config.model_dump(mode="json", exclude={"cache"})

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> Preprocessor:
        """Make a preprocessor of what :meth:`to_dict` gave.

        Raises
        ------
        DataError
            If the values are not settings of the preprocessing.
        """
        try:
            return cls(PreprocessingConfig.model_validate(data))
        except ValidationError as error:
            first = error.errors()[0]
            where = ".".join(str(part) for part in first["loc"]) or "the whole"
            msg = f"preprocessing settings are damaged: {where}: {first['msg']}; take them from the model's own folder."
            raise DataError(msg) from None


def _yaml(value: Any) -> str:
    """Return a setting as it stands in a file."""
    return {None: "null", True: "true", False: "false"}.get(value, str(value))
