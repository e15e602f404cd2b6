from __future__ import annotations

import hashlib
import json
from pathlib import Path

import h5py
import numpy as np
import pandas as pd
import pytest
from safetensors.numpy import save_file

from scmodelforge._errors import ConfigError, DataError
from scmodelforge.tokenizers.vector_files import read_vectors

GENES = ["TP53", "ENSG00000121410.12", "g3"]
VECTORS = np.random.default_rng(0).normal(size=(3, 5)).astype(np.float32)


def text(path: Path, *, heading: str = "", genes=GENES, vectors=VECTORS, joint: str = " ") -> Path:
    lines = [
        f"{gene}{joint}{' '.join(map(repr, vector.tolist()))}" for gene, vector in zip(genes, vectors, strict=True)
    ]
    path.write_text("\n".join([heading, *lines]) + "\n")
    return path


def npz(path: Path) -> Path:
    np.savez(path, genes=np.array(GENES), vectors=VECTORS)
    return path


def npz_of_genes(path: Path) -> Path:
    np.savez(path, **dict(zip(GENES, VECTORS, strict=True)))
    return path


def tensors(path: Path) -> Path:
    save_file({"vectors": VECTORS}, path, metadata={"genes": json.dumps(GENES)})
    return path


def tensors_of_genes(path: Path) -> Path:
    save_file(dict(zip(GENES, VECTORS, strict=True)), path)
    return path


def h5(path: Path) -> Path:
    with h5py.File(path, "w") as file:
        file["gene_ids"], file["embeddings"] = GENES, VECTORS
    return path


def h5_of_genes(path: Path) -> Path:
    with h5py.File(path, "w") as file:
        for gene, vector in zip(GENES, VECTORS, strict=True):
            file[gene] = vector
    return path


def parquet(path: Path, *, lists: bool = False, as_index: bool = False) -> Path:
    columns = {"vector": list(VECTORS)} if lists else {f"d{i}": VECTORS[:, i] for i in range(5)}
    table = pd.DataFrame({"symbol": GENES} | columns)
    (table.set_index("symbol") if as_index else table).to_parquet(path)
    return path


def csv(path: Path) -> Path:
    pd.DataFrame({"symbol": GENES} | {f"d{i}": VECTORS[:, i] for i in range(5)}).to_csv(path, index=False)
    return path


class TestFormats:
    @pytest.mark.parametrize(
        ("name", "write"),
        [
            ("v.npz", npz),
            ("v.npz", npz_of_genes),
            ("v.safetensors", tensors),
            ("v.safetensors", tensors_of_genes),
            ("v.h5", h5),
            ("v.h5", h5_of_genes),
            ("v.parquet", parquet),
            ("v.parquet", lambda path: parquet(path, lists=True)),
            ("v.parquet", lambda path: parquet(path, as_index=True)),
            ("v.csv", csv),
            ("v.txt", text),
            ("v.w2v", lambda path: text(path, heading="3 5")),
            ("v.tsv", lambda path: text(path, joint="\t")),
        ],
    )
    def test_genes_and_vectors_come_back(self, name, write, tmp_path):
        path = write(tmp_path / name)
        found = read_vectors(path)
        rows = [found.genes.index(gene) for gene in GENES]
        assert len(found.genes) == 3
        np.testing.assert_array_equal(found.vectors[rows], VECTORS)
        assert found.vectors.dtype == np.float32
        assert found.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()


class TestRefused:
    def test_a_file_that_is_not_there(self, tmp_path):
        with pytest.raises(
            ConfigError, match=r"tokenizer\.path: no file '.*gone\.npz'; it needs a file of gene vectors"
        ):
            read_vectors(tmp_path / "gone.npz")

    def test_under_the_name_of_the_setting_that_asked_for_it(self, tmp_path):
        with pytest.raises(ConfigError, match="gene_embeddings: no file"):
            read_vectors(tmp_path / "gone.npz", setting="gene_embeddings")

    @pytest.mark.parametrize(
        ("name", "words"),
        [
            ("v.pt", "is not read: such files can run code when they are opened; save the vectors as parquet"),
            ("v.pkl", "is not read: such files can run code"),
            ("v.npy", "is not read: it has no gene names"),
            ("v.xlsx", r"'v\.xlsx' is not read; save"),
        ],
    )
    def test_formats_that_hold_code_or_no_genes(self, name, words, tmp_path):
        (tmp_path / name).write_bytes(b"something")
        with pytest.raises(ConfigError, match=words):
            read_vectors(tmp_path / name)

    def test_pickled_objects_inside_an_archive(self, tmp_path):
        np.savez(tmp_path / "v.npz", genes=np.array(GENES, dtype=object), vectors=VECTORS)
        with pytest.raises(DataError, match=r"not readable as gene vectors \(Object arrays cannot be loaded when"):
            read_vectors(tmp_path / "v.npz")

    @pytest.mark.parametrize("name", ["v.npz", "v.safetensors", "v.h5", "v.parquet"])
    def test_files_that_are_damaged(self, name, tmp_path):
        (tmp_path / name).write_bytes(b"no such format at all, for sure")
        with pytest.raises(DataError, match="not readable as gene vectors"):
            read_vectors(tmp_path / name)

    def test_numbers_that_are_none(self, tmp_path):
        (tmp_path / "v.txt").write_text("TP53 1 2\nEGFR 1 many\n")
        with pytest.raises(DataError, match=r"v\.txt, line 2: 'EGFR 1 many' is not a gene and its numbers"):
            read_vectors(tmp_path / "v.txt")

    def test_vectors_of_different_lengths(self, tmp_path):
        (tmp_path / "v.txt").write_text("TP53 1 2\nEGFR 1 2 3\n")
        with pytest.raises(DataError, match=r"vectors have different shapes \(2, 3\); all must be of one length"):
            read_vectors(tmp_path / "v.txt")

    @pytest.mark.parametrize("wrong", [np.nan, np.inf])
    def test_numbers_that_are_not_finite(self, wrong, tmp_path):
        vectors = VECTORS.copy()
        vectors[1, 2] = wrong
        with pytest.raises(DataError, match=r"gene 'ENSG00000121410\.12' has a number that is NaN or infinite \(1 "):
            read_vectors(text(tmp_path / "v.txt", vectors=vectors))

    def test_a_gene_listed_twice(self, tmp_path):
        with pytest.raises(DataError, match="gene 'TP53' has two vectors; list each gene once"):
            read_vectors(text(tmp_path / "v.txt", genes=["TP53", "EGFR", "TP53"]))

    def test_another_number_of_genes_than_of_vectors(self, tmp_path):
        np.savez(tmp_path / "v.npz", genes=np.array(GENES), vectors=VECTORS[:2])
        with pytest.raises(DataError, match="3 genes and 2 vectors; each gene needs one"):
            read_vectors(tmp_path / "v.npz")

    @pytest.mark.parametrize("content", ["", "\n\n"])
    def test_files_without_genes(self, content, tmp_path):
        (tmp_path / "v.txt").write_text(content)
        with pytest.raises(DataError, match="no gene in it; gene vectors are needed"):
            read_vectors(tmp_path / "v.txt")

    def test_genes_without_numbers(self, tmp_path):
        (tmp_path / "v.txt").write_text("TP53\nEGFR\n")
        with pytest.raises(DataError, match="its vectors have no numbers"):
            read_vectors(tmp_path / "v.txt")

    def test_arrays_that_are_neither_layout(self, tmp_path):
        np.savez(tmp_path / "v.npz", a=VECTORS, b=VECTORS)
        with pytest.raises(DataError, match="has the arrays a, b; either one vector under each gene's name is needed"):
            read_vectors(tmp_path / "v.npz")

    def test_tables_with_no_or_several_columns_of_names(self, tmp_path):
        pd.DataFrame({"a": GENES, "b": GENES, "d": [1.0, 2, 3]}).to_parquet(tmp_path / "v.parquet")
        with pytest.raises(DataError, match="columns of gene names: a, b; exactly one is needed"):
            read_vectors(tmp_path / "v.parquet")
