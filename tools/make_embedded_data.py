"""Make the data set that ships with the package from the copy of it that scanpy ships.

Run from the repository root, with scanpy installed::

    python tools/make_embedded_data.py --out src/scmodelforge/datasets/files/pbmc68k_reduced.h5ad

What is changed, and under which licences all of it stands, is said in ``src/scmodelforge/datasets/files/NOTICE.md``.
The same versions of scanpy, anndata and HDF5 give the same bytes; the sha256 printed at the end belongs into
``src/scmodelforge/datasets/registry.py``.
"""

from __future__ import annotations

import argparse
import hashlib
import logging
import warnings
from pathlib import Path

import anndata as ad
import numpy as np
import pandas as pd
import scipy.sparse as sp

from scmodelforge.data.genes import human_protein_coding

_SOURCE = {
    "source": "scanpy.datasets.pbmc68k_reduced(), a subset of the data set 'Fresh 68k PBMCs (Donor A)' of 10x Genomics",
    "citation": "Zheng et al. 2017, Nature Communications 8, 14049, doi:10.1038/ncomms14049",
    "licence": "10x Genomics data: CC BY 4.0; scanpy: BSD-3-Clause",
    "changes": "counts recovered from log-normalised values; obs 'channel' and var 'ensembl_id' added; "
    "embeddings, graphs and scaled values left out",
}


def main() -> None:
    """Read scanpy's copy, write ours, say how well the counts were recovered."""
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    out = parser.parse_args().out
    import scanpy

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the file is of an old format
        original = scanpy.datasets.pbmc68k_reduced()
    counts = recover_counts(original)
    table = human_protein_coding()
    symbols = [str(name) for name in original.var_names]
    var = pd.DataFrame({"ensembl_id": [table.ensembl_of.get(s, s) for s in symbols]}, index=pd.Index(symbols))
    adata = ad.AnnData(X=counts, obs=describe_cells(original), var=var, uns=dict(_SOURCE))
    adata.write_h5ad(out, compression="gzip", compression_opts=9)
    mapped = sum(symbol in table.ensembl_of for symbol in symbols)
    logging.info(f"{adata.n_obs} cells x {adata.n_vars} genes, {mapped} of them with an Ensembl id")
    logging.info(f"{out.stat().st_size:,} bytes, sha256 {hashlib.sha256(out.read_bytes()).hexdigest()}")


def recover_counts(original: ad.AnnData) -> sp.csr_matrix:
    """Invert log(1 + 10,000 x / n_counts), where ``n_counts`` is the cell's total over all genes of the experiment.

    The shipped values carry about three digits, enough to tell which integer each of these small counts was.
    """
    counts = sp.csr_matrix(original.raw.X, dtype=np.float64)
    counts.sort_indices()
    scale = original.obs["n_counts"].to_numpy(np.float64) / 1e4
    inverted = np.expm1(counts.data) * np.repeat(scale, np.diff(counts.indptr))
    counts.data = np.round(inverted)
    logging.info(f"largest deviation from an integer: {np.abs(inverted - counts.data).max():.4f}")
    return sp.csr_matrix(counts, dtype=np.float32)


def describe_cells(original: ad.AnnData) -> pd.DataFrame:
    """Return the columns that are kept, and the 10x channel that each barcode ends with."""
    obs = original.obs[["bulk_labels", "louvain", "phase"]].copy()
    obs["channel"] = pd.Categorical([name.rpartition("-")[2] for name in original.obs_names])
    for column in ("n_counts", "n_genes"):
        obs[column] = original.obs[column].to_numpy().astype(np.int32)
    obs["percent_mito"] = original.obs["percent_mito"].to_numpy()
    obs.index.name = None
    return obs


if __name__ == "__main__":
    main()
