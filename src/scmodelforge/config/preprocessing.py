"""Settings of preprocessing: ``data.preprocessing``."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from scmodelforge.config.section import Section

__all__ = ["PreprocessingConfig"]


class PreprocessingConfig(Section):
    """Which cells and genes are trained on, and what is done to the counts of each cell before tokens are made of them.

    In this order: limits on cells, on genes, highly variable genes; then normalisation and logarithm of each cell.
    """

    min_counts_per_cell: float | None = Field(None, gt=0)
    """Training leaves out cells with a lower total; ``None`` is no limit. Embedding and evaluation leave out none."""
    max_counts_per_cell: float | None = Field(None, gt=0)
    """Training leaves out cells with a higher total."""
    min_genes_per_cell: int | None = Field(None, gt=0)
    """Training leaves out cells that express fewer genes of their file."""
    max_genes_per_cell: int | None = Field(None, gt=0)
    """Training leaves out cells that express more genes of their file."""
    min_cells_per_gene: int | None = Field(None, gt=0)
    """The vocabulary leaves out genes that fewer training cells express."""
    hvg_selection: int | None = Field(None, gt=0)
    """Number of highly variable genes the vocabulary is restricted to; ``None`` keeps all."""
    hvg_flavor: Literal["seurat", "seurat_v3", "cell_ranger"] = "seurat"
    """How variable genes are told: as the flavors of that name of scanpy's ``highly_variable_genes``."""
    hvg_batch_column: str | None = None
    """obs column with batches, within each of which genes are judged before the choices are combined."""
    normalize: Literal["library_size", "scran"] | None = None
    """``library_size`` divides each cell by its total and multiplies by ``target_sum``; ``scran`` divides it by its
    size factor from pools of cells, which have mean 1."""
    target_sum: float = Field(10_000.0, gt=0)
    """Total of each cell after library-size normalisation."""
    log1p: bool = False
    """Take log(1 + x) after normalisation."""
    cache: str | None = None
    """Folder in which the training data are kept after normalisation and logarithm, as zarr stores, for later passes
    and runs; ``None`` preprocesses while reading."""

    @model_validator(mode="after")
    def _limits_leave_room(self) -> PreprocessingConfig:
        for what in ("counts", "genes"):
            lowest, highest = getattr(self, f"min_{what}_per_cell"), getattr(self, f"max_{what}_per_cell")
            if lowest is not None and highest is not None and lowest > highest:
                msg = (
                    f"min_{what}_per_cell ({lowest}) exceeds max_{what}_per_cell ({highest}), which no cell satisfies; "
                    "lower the former or raise the latter"
                )
                raise ValueError(msg)
        return self
