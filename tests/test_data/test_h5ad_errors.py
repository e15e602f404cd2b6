"""What the user is told about files that cannot be used."""

from __future__ import annotations

import fcntl
import gzip
import os
import shutil
import socket
import tempfile
from multiprocessing import get_context
from pathlib import Path

import anndata as ad
import h5py
import numpy as np
import pytest
import scipy.sparse as sp

from scmodelforge._errors import DataError
from scmodelforge.data.sources._frame import no_column
from scmodelforge.data.types import RowRange
from tests.conftest import make_adata

from .h5ad_files import log_normalised, open_files, write


def refused(path: Path | str, **settings) -> str:
    """Return the one line that says why a file is refused."""
    with pytest.raises(DataError) as caught:
        open_files(path, **settings)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def put(path: Path, where: str, values: np.ndarray) -> None:
    """Replace a data set of a file."""
    with h5py.File(path, "r+") as h5:
        del h5[where]
        h5[where] = values


class TestPaths:
    def test_a_missing_file_comes_with_the_nearest_name(self, tmp_path, tiny_adata):
        write(tmp_path, tiny_adata, "lung.h5ad")
        assert refused(tmp_path / "lnug.h5ad").endswith("lnug.h5ad'. Did you mean 'lung.h5ad'?")

    def test_a_missing_folder_is_named(self, tmp_path):
        assert f"nor a folder '{tmp_path / 'no'}'; correct the path." in refused(tmp_path / "no" / "lung.h5ad")

    def test_a_folder_is_no_file(self, tmp_path):
        message = refused(tmp_path)
        assert "is a folder, and .h5ad files or zarr stores are needed; list its files, or use a " in message
        assert f"pattern: '{tmp_path}/*.h5ad'" in message

    def test_a_folder_named_like_a_zarr_store(self, tmp_path):
        (tmp_path / "lung.zarr").mkdir()
        assert "it has neither zarr.json nor .zgroup, so it is no zarr store; copy it" in refused(
            tmp_path / "lung.zarr"
        )

    def test_a_pattern_without_match(self, tmp_path):
        assert "no file matches" in refused(tmp_path / "*.h5ad")

    def test_one_file_under_two_names(self, tmp_path, tiny_h5ad):
        (tmp_path / "link.h5ad").symlink_to(tiny_h5ad)
        with pytest.raises(DataError, match=r"tiny.h5ad' and '.*link.h5ad' are one file; list it once"):
            open_files(tiny_h5ad, tmp_path / "link.h5ad")

    def test_something_that_is_no_regular_file(self, tmp_path, monkeypatch):
        monkeypatch.chdir(tmp_path)  # the path of a socket must be short
        with socket.socket(socket.AF_UNIX) as listener:
            listener.bind("s.h5ad")
            assert "'s.h5ad' is not a regular file; .h5ad files or zarr stores are needed." in refused("s.h5ad")


class TestFormat:
    @pytest.mark.parametrize(
        ("content", "message"),
        [
            (b"cell,gene\n1,2\n", "cells.h5ad is not an .h5ad file (it does not begin as HDF5 files do)"),
            (b"", "cells.h5ad is empty (0 bytes); an .h5ad file is needed."),
            (gzip.compress(b"cells", mtime=0), "cells.h5ad is a gzip archive; unpack it with gunzip"),
            (b"PK\x03\x04cells", "cells.h5ad is a zip archive; unpack it with unzip and name the zarr store inside."),
            (b"\x89HDF\r\n\x1a\n" + b"junk" * 50, "cells.h5ad is a damaged HDF5 file"),
        ],
    )
    def test_a_file_that_is_not_hdf5(self, tmp_path, content, message):
        (tmp_path / "cells.h5ad").write_bytes(content)
        assert refused(tmp_path / "cells.h5ad").startswith(message)

    def test_a_truncated_file_says_how_much_is_there(self, tiny_h5ad):
        content = tiny_h5ad.read_bytes()
        tiny_h5ad.write_bytes(content[: len(content) // 2])
        assert refused(tiny_h5ad).startswith(
            f"tiny.h5ad is cut off: {len(content) // 2:,} of {len(content):,} bytes are"
        )

    def test_damage_inside_the_values_is_found_when_they_are_read(self, tmp_path):
        path = write(tmp_path, make_adata(2000, 30), compression="gzip")
        with h5py.File(path) as h5:
            source = open_files(path)
            chunk = h5["X/data"].id.get_chunk_info(0)
        content = bytearray(path.read_bytes())
        content[chunk.byte_offset + 10 : chunk.byte_offset + chunk.size] = b"\0" * (chunk.size - 10)
        source.close()
        path.write_bytes(content)
        with pytest.raises(DataError, match=r"cells.h5ad: X/data: the chunk of values 0 to .* rows 0 to"):
            source.read(RowRange(0, 0, 2000))

    def test_a_file_that_vanished_after_it_was_checked(self, tiny_h5ad):
        source = open_files(tiny_h5ad)
        source.close()
        tiny_h5ad.unlink()
        with pytest.raises(
            DataError, match=r"tiny.h5ad cannot be read: No such file or directory. Check that .* is there"
        ):
            source.read(RowRange(0, 0, 1))

    def test_a_file_that_another_program_writes(self, tiny_h5ad):
        with tiny_h5ad.open("rb") as other:
            fcntl.flock(other, fcntl.LOCK_EX)
            message = refused(tiny_h5ad)
        assert message == "tiny.h5ad is being written by another program; wait until that is done."

    def test_hdf5_that_is_not_anndata(self, tmp_path):
        with h5py.File(tmp_path / "a.h5ad", "w") as h5:
            h5["matrix/barcodes"] = [1]
        message = refused(tmp_path / "a.h5ad")
        assert "a.h5ad is an HDF5 file but not AnnData: it has no obs, but matrix. It looks like a 10x file" in message

    def test_tables_of_a_very_old_anndata(self, tiny_h5ad):
        put(tiny_h5ad, "obs", np.zeros(60, dtype=[("index", "S8")]))
        assert "tiny.h5ad: obs is written as anndata did before 0.7" in refused(tiny_h5ad)

    def test_a_table_without_its_index(self, tiny_h5ad):
        with h5py.File(tiny_h5ad, "r+") as h5:
            del h5["var/_index"]
        assert "tiny.h5ad: var has no index '_index'" in refused(tiny_h5ad)

    def test_no_cells(self, tmp_path, tiny_adata):
        assert "cells.h5ad has no cells; leave it out" in refused(write(tmp_path, tiny_adata[:0].copy()))

    def test_no_matrix(self, tmp_path, tiny_adata):
        path = write(tmp_path, ad.AnnData(obs=tiny_adata.obs, var=tiny_adata.var))
        assert "cells.h5ad has no expression matrix: neither X nor raw nor a layer." in refused(path)


def refused_without_rights(path: Path) -> str:
    """Return the line for a user who may not read a file, also when the tests run as root, who may."""
    fork = get_context("fork")
    receiver, sender = fork.Pipe(duplex=False)

    def run() -> None:
        if os.geteuid() == 0:
            os.setuid(65534)
        sender.send(refused(path))

    process = fork.Process(target=run)
    process.start()
    sender.close()
    message = receiver.recv()
    process.join()
    return message


@pytest.mark.filterwarnings("ignore:.*multi-threaded, use of fork:DeprecationWarning")
class TestPermission:
    def test_a_file_that_may_not_be_read(self, tiny_h5ad):
        with tempfile.TemporaryDirectory() as folder:
            os.chmod(folder, 0o755)
            path = shutil.copy(tiny_h5ad, folder)
            os.chmod(path, 0)
            message = refused_without_rights(Path(path))
        assert message.startswith("tiny.h5ad cannot be read: Permission denied. Check that ")

    def test_a_folder_that_may_not_be_opened(self, tmp_path, tiny_h5ad):
        tmp_path.chmod(0)
        message = refused_without_rights(tiny_h5ad)
        tmp_path.chmod(0o700)
        assert message.endswith("tiny.h5ad' cannot be reached: you may not open its folder; ask for access or copy it.")


class TestMatrix:
    def test_columns_are_to_be_converted(self, tmp_path, tiny_adata):
        tiny_adata.X = sp.csc_matrix(tiny_adata.X)
        message = refused(write(tmp_path, tiny_adata))
        assert "cells.h5ad: X is stored by columns (CSC)" in message
        assert "adata.X = adata.X.tocsr()" in message

    def test_columns_matter_only_where_the_counts_are(self, tmp_path, tiny_adata):
        counts = tiny_adata.X
        tiny_adata.layers["counts"] = counts
        tiny_adata.X = sp.csc_matrix(log_normalised(counts))
        path = write(tmp_path, tiny_adata, "a.h5ad")
        assert "counts found in layer 'counts' (X is stored by columns)" in open_files(path).describe()[0]
        tiny_adata.layers["counts"], tiny_adata.X = sp.csc_matrix(counts), log_normalised(counts)
        assert "layer 'counts' is stored by columns" in refused(write(tmp_path, tiny_adata, "b.h5ad"))

    def test_columns_and_no_counts_anywhere(self, tmp_path, tiny_adata):
        tiny_adata.X = sp.csc_matrix(log_normalised(tiny_adata.X))
        tiny_adata.layers["log"] = tiny_adata.X
        message = refused(write(tmp_path, tiny_adata))
        assert message.startswith("cells.h5ad: every matrix is stored by columns and none holds counts")

    def test_an_unknown_layer_comes_with_those_there_are(self, tmp_path, tiny_adata):
        tiny_adata.raw = tiny_adata
        tiny_adata.layers["counts"] = tiny_adata.X
        message = refused(write(tmp_path, tiny_adata), layer="count")
        assert "has no layer 'count' (data.layer). Did you mean 'counts'? There are: X, raw, counts." in message

    @pytest.mark.parametrize(
        ("where", "values", "message"),
        [
            ("X/indptr", np.zeros(60), "X has rows for 59 cells, but the obs table has 60"),
            ("X/indptr", np.r_[0, np.full(59, 9), 8], "X has row starts that do not ascend from 0"),
            ("X/data", np.ones(5), r"X has 5 values and \d+,?\d* columns, but its rows need \d+"),
            ("X/data", np.array(["a"], dtype=object), "X holds object; numbers are needed"),
            ("X", np.ones((60, 39)), "X has the shape 60 x 39, but the file's tables have 60 cells and 40 genes"),
            ("X", np.ones(60), "X has the shape 60, but"),
        ],
    )
    def test_parts_that_do_not_fit_together(self, tiny_h5ad, where, values, message):
        put(tiny_h5ad, where, values)
        with pytest.raises(DataError, match=f"tiny.h5ad: {message}"):
            open_files(tiny_h5ad)

    def test_a_part_that_is_not_there(self, tiny_h5ad):
        with h5py.File(tiny_h5ad, "r+") as h5:
            del h5["X/indices"]
        assert "The file is damaged or not as anndata writes it" in refused(tiny_h5ad)

    @pytest.mark.parametrize("column", [-1, 40])
    def test_column_numbers_that_are_no_gene(self, tiny_h5ad, column):
        with h5py.File(tiny_h5ad, "r+") as h5:
            h5["X/indices"][3] = column
        assert "tiny.h5ad: X has column numbers outside 0 to 39 in rows 0 to " in refused(tiny_h5ad)

    def test_another_encoding(self, tiny_h5ad):
        with h5py.File(tiny_h5ad, "r+") as h5:
            h5["X"].attrs["encoding-type"] = "awkward-array"
        assert "X is stored as awkward-array; a dense or a CSR matrix is needed" in refused(tiny_h5ad)

    @pytest.mark.parametrize("storage", [sp.csr_matrix, np.asarray])
    def test_whole_numbers_that_float32_does_not_hold(self, tmp_path, storage):
        counts = np.array([[1, 2**24], [0, 3]], dtype=np.int64)
        open_files(write(tmp_path, ad.AnnData(X=storage(counts)), "fits.h5ad"))
        counts[0, 1] += 1
        message = refused(write(tmp_path, ad.AnnData(X=storage(counts))))
        assert "cells.h5ad: X holds 16,777,217; whole numbers beyond 16,777,216 are not exact as float32" in message

    def test_a_compression_that_is_not_installed(self, tiny_h5ad):
        with h5py.File(tiny_h5ad, "r+") as h5:
            length = len(h5["X/data"])
            del h5["X/data"]
            settings = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
            settings.set_chunk((length,))
            settings.set_filter(32900, h5py.h5z.FLAG_OPTIONAL, ())
            space = h5py.h5s.create_simple((length,))
            h5py.h5d.create(h5["X"].id, b"data", h5py.h5t.NATIVE_FLOAT, space, settings)
        message = "tiny.h5ad: X is compressed with HDF5 filter 32900; install what reads it: pip install hdf5plugin"
        assert refused(tiny_h5ad) == message


class TestColumns:
    def test_an_absent_obs_column_comes_with_those_that_every_file_has(self, tmp_path, tiny_adata):
        first = write(tmp_path, tiny_adata, "a.h5ad")
        del tiny_adata.obs["batch"]
        source = open_files(first, write(tmp_path, tiny_adata, "b.h5ad"))
        with pytest.raises(DataError, match=r"b.h5ad: obs has no column 'batch'. There are: cell_type, donor_id.$"):
            source.obs("batch")
        with pytest.raises(DataError, match=r"a.h5ad: obs has no column 'celltype'. Did you mean 'cell_type'\?"):
            source.obs("celltype")

    def test_names_that_differ_in_case_only_are_all_offered(self):
        message = no_column("a.h5ad: obs", "CELLTYPE", ["cellType", "x", "celltype"])
        assert message.endswith("Did you mean 'cellType' or 'celltype'? There are: cellType, x, celltype.")
        assert no_column("a.h5ad: obs", "z", [f"c{i}" for i in range(50)]).endswith("c38, c39 and 10 more.")

    def test_an_absent_gene_id_column_comes_with_those_there_are(self, tmp_path, tiny_adata):
        tiny_adata.var["gene_name"] = [f"GENE{i}" for i in range(40)]
        message = refused(write(tmp_path, tiny_adata), gene_id_column="gene_names")
        assert "var has no column 'gene_names' (data.gene_id_column). Did you mean 'gene_name'?" in message
        assert "The index has human Ensembl ids (ENSG00000000001, ...)" in message

    def test_a_column_of_another_length(self, tiny_h5ad):
        put(tiny_h5ad, "obs/batch", np.arange(59))
        with pytest.raises(DataError, match=r"obs: column 'batch' has 59 rows, the index has 60; the file is damaged"):
            open_files(tiny_h5ad).obs("batch")

    @pytest.mark.parametrize("code", [-2, 2])
    def test_codes_without_a_category(self, tiny_h5ad, code):
        put(tiny_h5ad, "obs/batch/codes", np.full(60, code))
        with pytest.raises(DataError, match="column 'batch' has codes without a category; the file is damaged"):
            open_files(tiny_h5ad).obs("batch")

    def test_a_column_of_a_kind_that_is_no_column(self, tiny_h5ad):
        with h5py.File(tiny_h5ad, "r+") as h5:
            h5["obs/odd/x"] = [1]
            h5["obs/odd"].attrs["encoding-type"] = "dict"
        with pytest.raises(DataError, match="column 'odd' is a dict; it cannot be read"):
            open_files(tiny_h5ad).obs("odd")
