"""What is done to the counts of each cell before tokens are made of them."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Literal

import numpy as np
from pydantic import ValidationError

from scmodelforge._errors import ConfigError, DataError
from scmodelforge.config.schema import PreprocessingConfig
from scmodelforge.data.hvg import HighlyVariable
from scmodelforge.data.types import CellBlock

__all__ = ["HighlyVariable", "Preprocessor"]

#: Kinds of values that library size, logarithm and the choice of variable genes are meaningful for.
_LINEAR = ("counts", "normalized")


class Preprocessor:
    """Library-size normalisation and logarithm, as the settings ask for them, cell by cell.

    Parameters
    ----------
    config
        The settings. ``hvg_selection`` acts on the vocabulary, not here.
    """

    def __init__(self, config: PreprocessingConfig) -> None:
        self.config = config

    @property
    def scale(self) -> Literal["counts", "library_size", "log1p"]:
        """What comes out when counts go in."""
        if self.config.log1p:
            return "log1p"
        return "counts" if self.config.normalize is None else "library_size"

    def __call__(self, block: CellBlock) -> CellBlock:
        """Return the block with prepared values, float32. The total of a cell is over all genes of its file.

        A cell without counts keeps its zeros. The block given is not changed.
        """
        if self.scale == "counts":
            return block
        values = block.data.astype(np.float64)
        if self.config.normalize == "library_size":
            totals = block.totals()
            factors = np.divide(self.config.target_sum, totals, out=np.ones_like(totals), where=totals > 0)
            values *= np.repeat(factors, np.diff(block.indptr))
        if self.config.log1p:
            np.log1p(values, out=values)
        return replace(block, data=values.astype(np.float32))

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
            If values that are not linear in the counts would be normalised, logged or used to choose genes.
        """
        if kind in _LINEAR:
            return
        for setting, off in (("normalize", None), ("log1p", False), ("hvg_selection", None)):
            value = getattr(self.config, setting)
            if value != off:
                path = f"data.preprocessing.{setting}"
                msg = (
                    f"{path} is {_yaml(value)}, which needs counts, but the values of {name} are {kind}; "
                    f"name the layer that holds counts in data.layer, or set {path} to {_yaml(off)}."
                )
                raise ConfigError(msg)

    def to_dict(self) -> dict[str, Any]:
        """Return the settings as plain values."""
        return self.config.model_dump(mode="json")

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
