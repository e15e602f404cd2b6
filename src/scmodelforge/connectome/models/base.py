"""What every model of pairs does: it encodes regions, scores pairs of them, is fitted, saved and loaded."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Self

import numpy as np
import torch
from torch import nn

from scmodelforge._errors import ConfigError, DataError
from scmodelforge.connectome.data import RegionPairDataset
from scmodelforge.connectome.models.settings import TrainingSettings, check_heads, checked_dims, require_share

if TYPE_CHECKING:
    from torch.utils.data import DataLoader

__all__ = ["ConnectomeModel"]

_PLACES = 6  # numbers: three of each region


class ConnectomeModel(nn.Module):
    """Base of the models. A subclass writes :meth:`encode`, which sees one region at a time, and :meth:`score`.

    Parameters
    ----------
    input_dim
        Twice the number of genes.
    dataset
        The data set it is made for, or ``None``.
    arguments
        All other arguments of the subclass by name, but for gene vectors: what a saved model is made from again.

    Attributes
    ----------
    valid_genes
        Genes of its data set, ``None`` before it knows one.
    training_settings
        How it is trained.
    needs_coords, is_symmetric
        Whether it reads coordinates, and whether a pair and its mirror image get the same prediction.
    name
        What it is registered as.
    """

    name: ClassVar[str] = ""
    scores_codes: ClassVar[bool] = True
    """Whether :meth:`encode` gives the little that the head reads, so that all regions can be kept encoded."""

    reads_places: ClassVar[tuple[str, str]] = ("place_dim above 0", "place_dim=0")
    """The argument by which the model reads coordinates, and that by which it does not, as messages say them."""

    def __init__(self, input_dim: int, dataset: RegionPairDataset | None, arguments: Mapping[str, Any]) -> None:
        super().__init__()
        self.arguments = {**arguments, "deep_hidden_dims": checked_dims(arguments["deep_hidden_dims"])}
        self.training_settings = TrainingSettings.of(arguments)
        for name in ("transformer_dropout", "dropout_rate"):
            require_share(name, arguments[name])
        check_heads(arguments["d_model"], arguments["nhead"], arguments["num_layers"])
        if isinstance(input_dim, bool) or not isinstance(input_dim, int | np.integer) or input_dim < 2 or input_dim % 2:
            msg = f"input_dim is {input_dim!r}; twice the number of genes is needed."
            raise ConfigError(msg)
        self.input_dim = int(input_dim)
        self.valid_genes: list[str] | None = None
        self.needs_coords = self.is_symmetric = False
        if dataset is not None:
            self.take_genes(dataset)

    def encode(self, expression: torch.Tensor) -> Any:
        """Return what is needed of each region, from expression of all genes, shape (U, G)."""
        raise NotImplementedError

    def score(
        self, states: Any, places: torch.Tensor | None, first: torch.Tensor, second: torch.Tensor
    ) -> torch.Tensor:
        """Return the connectivity of pairs of encoded regions, shape (B,).

        Parameters
        ----------
        states
            What :meth:`encode` gave of U regions.
        places
            Their coordinates, shape (U, 3), or ``None``.
        first, second
            Which of them are paired, shape (B,).
        """
        raise NotImplementedError

    def fit_inputs(self, expression: torch.Tensor, places: torch.Tensor | None) -> None:
        """Take from training regions, expression (R, G) and coordinates (R, 3), what the way in depends on."""

    def forward(
        self, x: torch.Tensor, coords: torch.Tensor | None = None, idx: torch.Tensor | None = None
    ) -> torch.Tensor:
        """Return the connectivity of pairs, shape (B,).

        Parameters
        ----------
        x
            Expression of region i, then of region j, shape (B, 2G).
        coords
            Coordinates of both, shape (B, 6); read by models that know places.
        idx
            Numbers of the pairs, as items have them; nothing depends on them.
        """
        regions, places = self.halves(x, coords)
        number = torch.arange(len(x), device=x.device)
        return self.score(self.encode(regions), places, number, number + len(x))

    def score_pairs(self, expression: torch.Tensor, places: torch.Tensor | None, pairs: torch.Tensor) -> torch.Tensor:
        """Return the connectivity of pairs of rows, each row encoded once.

        Parameters
        ----------
        expression, places
            Of all regions, shape (R, G) and (R, 3).
        pairs
            Rows, shape (B, 2).
        """
        regions, where = torch.unique(pairs, return_inverse=True)
        at = places[regions] if places is not None and self.needs_coords else None
        return self.score(self.encode(expression[regions]), at, where[:, 0], where[:, 1])

    def halves(self, x: torch.Tensor, coords: torch.Tensor | None) -> tuple[torch.Tensor, torch.Tensor | None]:
        """Return the regions of pairs one below another: expression, shape (2B, G), and places, shape (2B, 3).

        Raises
        ------
        DataError
            (a ``ValueError``) If shapes are not those of the model, or numbers are missing; the latter is looked for
            on the CPU only.
        """
        if x.ndim != 2 or x.shape[1] != self.input_dim:
            msg = f"x has the shape {tuple(x.shape)}; pairs x {self.input_dim:,}, the genes of both, are needed."
            raise DataError(msg)
        if not self.needs_coords:
            coords = None
        elif coords is None or coords.shape != (len(x), _PLACES):
            found = "missing" if coords is None else f"of the shape {tuple(coords.shape)}"
            msg = f"coords are {found}; {len(x)} x {_PLACES}, the coordinates of both regions, are needed."
            raise DataError(msg)
        for label, values in (("x", x), ("coords", coords)):
            if values is not None and values.device.type == "cpu" and not bool(values.isfinite().all()):
                msg = f"{label} has NaN or infinite values; leave such regions out."
                raise DataError(msg)
        half = self.input_dim // 2
        places = None if coords is None else torch.cat([coords[:, :3], coords[:, 3:]])
        return torch.cat([x[:, :half], x[:, half:]]), places

    def fit(
        self,
        dataset: RegionPairDataset,
        train_indices: Sequence[int] | np.ndarray,
        test_indices: Sequence[int] | np.ndarray,
        save_model: str | os.PathLike[str] | None = None,
        verbose: bool | Callable[[str], None] = True,
        *,
        val_indices: Sequence[int] | np.ndarray | None = None,
    ) -> dict[str, list[float]]:
        """Train on some pairs, from the weights there are, and follow others.

        Parameters
        ----------
        dataset
            Pairs of regions, with the genes of the model.
        train_indices
            Pairs to train on.
        test_indices
            Pairs whose error is told after each epoch. Nothing is chosen by them; there may be none.
        save_model
            Folder to save the model to.
        verbose
            Whether to log a line an epoch; a function takes the lines in the place of the log.
        val_indices
            Pairs by which the epoch is chosen whose weights are kept; without, those of the last are.

        Returns
        -------
        Of each epoch ``train_loss``, ``test_loss`` (mean squared errors), ``test_corr`` (Pearson r) and, with
        ``val_indices``, ``val_loss``.

        Raises
        ------
        ConfigError, DataError
            (``ValueError``) If the data set is not that of the model, or indices are not those of pairs.
        RunError
            If training leaves the finite numbers: the message says what to change.
        """
        from scmodelforge.connectome.models.fitting import fit_pairs

        history = fit_pairs(self, dataset, train_indices, test_indices, val_indices, verbose=verbose)
        if save_model is not None:
            self.save(save_model)
        return history

    def predict(self, loader: DataLoader[Any]) -> tuple[np.ndarray, np.ndarray]:
        """Return predictions and targets of the pairs of a loader, in its order, each shape (n,), float32.

        Of a loader over a :class:`RegionPairDataset` or a ``Subset`` of one only the numbers of pairs are asked for,
        and each region of a batch is encoded once.
        """
        from scmodelforge.connectome.models.predicting import predict_loader

        return predict_loader(self, loader)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write weights, arguments and genes into a folder, which is made."""
        from scmodelforge.connectome.models.saved import save_model

        save_model(self, path)

    @classmethod
    def load(cls, path: str | os.PathLike[str], region_pair_dataset: RegionPairDataset | None = None) -> Self:
        """Return a saved model, in evaluation.

        Raises
        ------
        DataError
            (a ``ValueError``) If the folder has no such model, or the data set has other genes.
        """
        from scmodelforge.connectome.models.saved import load_model

        return load_model(cls, path, region_pair_dataset)

    @classmethod
    def from_facts(cls, facts: Mapping[str, Any]) -> Self:
        """Return a new model from what the file of a saved one says."""
        model: Any = cls
        return model(facts["input_dim"], None, **facts["arguments"])

    def extra_facts(self) -> dict[str, Any]:
        """Return what :meth:`from_facts` needs beside the arguments, as JSON values."""
        return {}

    def take_genes(self, dataset: RegionPairDataset) -> None:
        """Compare a data set with the model, and keep its genes if the model has none yet.

        Raises
        ------
        DataError
            (a ``ValueError``) If it has other genes, or no coordinates where they are read.
        """
        if 2 * dataset.num_genes != self.input_dim:
            msg = (
                f"input_dim is {self.input_dim:,} and the data set has {dataset.num_genes:,} genes; twice that, "
                f"{2 * dataset.num_genes:,}, is needed."
            )
            raise DataError(msg)
        if self.valid_genes is None:
            self.valid_genes = list(dataset.valid_genes)
        elif self.valid_genes != list(dataset.valid_genes):
            pairs = zip(self.valid_genes, dataset.valid_genes, strict=True)
            ours, theirs = next((a, b) for a, b in pairs if a != b)
            msg = (
                f"the data set has gene '{theirs}' where the model was made for '{ours}'; give the genes of the model "
                "in its order."
            )
            raise DataError(msg)
        self.require_coords(dataset)

    def require_coords(self, dataset: RegionPairDataset) -> None:
        """Refuse a data set without coordinates where they are read."""
        if self.needs_coords and dataset.coords is None:
            asked, without = self.reads_places
            msg = f"{type(self).__name__} with {asked} reads coordinates and the data set has none."
            raise DataError(f"{msg} Give coords, or use {without}.")
