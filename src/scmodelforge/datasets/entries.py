"""The data sets known by name.

Of a file that others publish, a checksum stands here only if it was taken of that very file; where there is none, the
checksum is pinned when the file is first fetched or found. Cells and genes are those of the publication. Where
there is no address, ``where`` says how a person gets the file.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

__all__ = ["DATASETS", "DatasetInfo", "SplitRecipe"]


@dataclass(frozen=True, slots=True)
class SplitRecipe:
    """Which cells of a data set are held out, the same for everybody.

    Whole groups of an obs column are held out. They are drawn by a hash of the seed and of their own names, so neither
    the order of the file nor groups that it has beside them change what is drawn.

    Attributes
    ----------
    by
        The obs column.
    fraction
        Share that is held out.
    share_of
        What it is a share of: all cells, or the groups that may be held out.
    seed
        Seed of the draw.
    keep
        Groups that are never held out, such as control cells.
    separator
        Only groups with this in their names, combinations, are held out; ``A_B`` and ``B_A`` together.
    train, heldout
        Cells that are expected on each side, if they are known.
    """

    by: str
    fraction: float = 0.3
    share_of: Literal["cells", "groups"] = "cells"
    seed: int = 0
    keep: tuple[str, ...] = ()
    separator: str | None = None
    train: int | None = None
    heldout: int | None = None

    def describe(self) -> str:
        """Return one line that says what is held out."""
        what = "the cells" if self.share_of == "cells" else "its groups"
        if self.separator is not None:
            what = f"its groups that combine several by '{self.separator}'"
        kept = f", never {' or '.join(self.keep)}" if self.keep else ""
        return f"{self.fraction:.0%} of {what} held out by whole groups of '{self.by}'{kept}, seed {self.seed}"


@dataclass(frozen=True, slots=True)
class DatasetInfo:
    """What there is to know of a data set before it is read.

    Attributes
    ----------
    name
        The name it is asked for by.
    description
        One sentence on the cells.
    organism
        Whose cells.
    cells, genes
        Size of the expression matrix; ``None`` where it is not known.
    label_column
        obs column with the cell types, or ``None``.
    batch_column
        obs column with the technical batch, or ``None``.
    donor_column
        obs column with the donors, or ``None``.
    perturbation_column, control
        obs column with what was done to each cell, and its value for untouched cells, or ``None``.
    licence
        Terms of the data.
    is_non_commercial
        Whether the terms forbid commercial use.
    citation
        The publication to cite.
    sha256
        Checksum of the file; ``None`` if it is pinned when the file is first fetched or found.
    is_shipped
        Whether the file comes with the package.
    url
        Address of the file, if it is known for sure.
    where
        How a person gets the file.
    split
        Which cells are held out in evaluations.
    """

    name: str
    description: str
    organism: str
    licence: str
    citation: str
    cells: int | None = None
    genes: int | None = None
    label_column: str | None = None
    batch_column: str | None = None
    donor_column: str | None = None
    perturbation_column: str | None = None
    control: str | None = None
    is_non_commercial: bool = False
    sha256: str | None = None
    is_shipped: bool = False
    url: str | None = None
    where: str = ""
    split: SplitRecipe | None = None

    @property
    def columns(self) -> list[str]:
        """The obs columns that this entry speaks of."""
        named = [self.label_column, self.batch_column, self.donor_column, self.perturbation_column]
        named += [self.split.by] if self.split else []
        return list(dict.fromkeys(column for column in named if column is not None))


_PBMC = DatasetInfo(
    name="pbmc68k_reduced",
    description="Blood cells (PBMC) of one healthy donor, 10 types labelled by comparison with sorted cells, "
    "765 genes; the subset of 10x Genomics' 68k PBMC that scanpy ships, as counts",
    organism="human",
    cells=700,
    genes=765,
    label_column="bulk_labels",
    batch_column="channel",
    licence="CC BY 4.0 (data, 10x Genomics), BSD-3-Clause (subset and annotation, scanpy)",
    citation="Zheng et al. 2017, Nature Communications 8, 14049, doi:10.1038/ncomms14049",
    sha256="f7eefcc8763a917f2fcfd3a51e198e4dd2b0fa9e30ba4dea9a35405775233556",
    is_shipped=True,
    split=SplitRecipe("channel", train=462, heldout=238),
)
_TABULA_SAPIENS = DatasetInfo(
    name="tabula_sapiens",
    description="Cells of many tissues, each from several donors, with types given by experts of the tissue",
    organism="human",
    label_column="cell_type",
    batch_column="donor_id",
    donor_column="donor_id",
    licence="CC BY 4.0",
    citation="The Tabula Sapiens Consortium 2022, Science 376, eabl4896, doi:10.1126/science.abl4896",
    where="the .h5ad of all cells of the collection Tabula Sapiens at CELLxGENE Discover "
    "(https://cellxgene.cziscience.com)",
    split=SplitRecipe("donor_id"),
)
_IMMUNE = DatasetInfo(
    name="immune_atlas",
    description="Blood and bone marrow cells of ten batches from five studies: the human immune task of scIB",
    organism="human",
    cells=33_506,
    genes=12_303,
    label_column="final_annotation",
    batch_column="batch",
    licence="CC BY 4.0",
    citation="Luecken et al. 2022, Nature Methods 19, 41-50, doi:10.1038/s41592-021-01336-8",
    where="Immune_ALL_human.h5ad of the integration task data sets of 'Benchmarking atlas-level data integration in "
    "single-cell genomics' at figshare (https://figshare.com)",
    split=SplitRecipe("batch"),
)
_NORMAN = DatasetInfo(
    name="norman",
    description="K562 cells with one or two genes switched on by CRISPRa (Perturb-seq), as counts",
    organism="human",
    perturbation_column="perturbation",
    control="control",
    licence="CC BY 4.0 (scPerturb); raw data: GEO GSE133344",
    citation="Norman et al. 2019, Science 365, 786-793, doi:10.1126/science.aax4438; "
    "Peidli et al. 2024, Nature Methods 21, 531-540, doi:10.1038/s41592-023-02144-y",
    where="NormanWeissman2019_filtered.h5ad of scPerturb (https://scperturb.org, at Zenodo)",
    split=SplitRecipe("perturbation", fraction=0.25, share_of="groups", keep=("control",), separator="_"),
)
_REPLOGLE = DatasetInfo(
    name="replogle_k562_essential",
    description="K562 cells with one essential gene each silenced by CRISPRi (Perturb-seq), as counts",
    organism="human",
    cells=310_385,
    genes=8_563,
    batch_column="batch",
    perturbation_column="perturbation",
    control="control",
    licence="CC BY 4.0 (scPerturb)",
    citation="Replogle et al. 2022, Cell 185, 2559-2575, doi:10.1016/j.cell.2022.05.013; "
    "Peidli et al. 2024, Nature Methods 21, 531-540, doi:10.1038/s41592-023-02144-y",
    where="ReplogleWeissman2022_K562_essential.h5ad of scPerturb (https://scperturb.org, at Zenodo)",
    split=SplitRecipe("perturbation", fraction=0.25, share_of="groups", keep=("control",)),
)

#: By name.
DATASETS = {data.name: data for data in (_PBMC, _TABULA_SAPIENS, _IMMUNE, _NORMAN, _REPLOGLE)}
