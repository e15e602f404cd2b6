"""Small SOMA stores in the layout of the CELLxGENE Census, written in code."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from tests.conftest import make_adata

BUILD = "2031-01-30"
#: TileDB 2.30 may crash where it merges the bounds of tiles before it reads; see ``_soma_store``.
WITHOUT_MERGE = {"sm.query.sparse_global_order.preprocess_tile_merge": "0"}


def census_cells(num_cells: int = 90, num_genes: int = 40):
    """Return cells with the kinds of columns a Census has: text with stored values, plain text, bools, numbers."""
    import pandas as pd

    rng = np.random.default_rng(1)
    adata = make_adata(num_cells, num_genes)
    adata.obs = pd.DataFrame(
        {
            "tissue": pd.Categorical(rng.choice(["lung", "heart", "liver", "skin"], num_cells)),
            "is_primary_data": rng.random(num_cells) < 0.7,
            "cell_type": pd.Categorical(rng.choice(["T cell", 'it\'s "B"', None], num_cells)),
            "donor_id": [f"d{i % 5}" for i in range(num_cells)],
            "batch": pd.Categorical([f"b{i % 2}" for i in range(num_cells)]),
            "score": rng.integers(-2, 3, num_cells).astype(np.int16),
            "age": np.where(rng.random(num_cells) < 0.2, np.nan, rng.integers(1, 4, num_cells)),
            "purity": rng.random(num_cells).astype(np.float32),
            "plain text": rng.choice(["x", "y"], num_cells),
        },
        index=adata.obs_names,
    )
    adata.var["feature_id"] = adata.var_names
    adata.var["symbol"] = [f"G{i}" for i in range(num_genes)]
    return adata


def write_experiment(
    uri: Path,
    adata: Any,
    *,
    obs_id_name: str = "obs_id",
    var_id_name: str = "var_id",
    is_sparse: bool = True,
    num_parts: int = 1,
) -> Path:
    """Write cells as a SOMA experiment with the counts in RNA/raw.

    With several parts the obs table is written in parts, the last one first, and comes back in that order; it and the
    counts may then have entries twice.
    """
    import pyarrow
    import tiledbsoma as soma

    options = soma.TileDBCreateOptions(allows_duplicates=num_parts > 1)
    with soma.Experiment.create(str(uri)) as experiment:
        obs = _table(adata.obs, obs_id_name)
        with experiment.add_new_dataframe(
            "obs", schema=obs.schema, domain=[(0, len(obs) - 1)], platform_config=options
        ) as frame:
            name = frame.uri
        for part in np.array_split(np.arange(len(obs)), num_parts)[::-1]:
            with soma.DataFrame.open(name, "w") as frame:
                frame.write(obs.take(part))
        rna = experiment.add_new_collection("ms").add_new_collection("RNA", soma.Measurement)
        var = _table(adata.var, var_id_name)
        rna.add_new_dataframe("var", schema=var.schema, domain=[(0, len(var) - 1)]).write(var)
        layers = rna.add_new_collection("X")
        if is_sparse:
            _write_sparse(layers, adata.X.tocoo(), options)
        else:
            counts = adata.X.toarray()
            array = layers.add_new_dense_ndarray("raw", type=pyarrow.from_numpy_dtype(counts.dtype), shape=counts.shape)
            array.write((slice(None), slice(None)), pyarrow.Tensor.from_numpy(counts))
    return uri


def _table(frame: Any, id_name: str) -> Any:
    import pyarrow

    columns = {"soma_joinid": pyarrow.array(np.arange(len(frame))), id_name: pyarrow.array([*frame.index.astype(str)])}
    for column, values in frame.items():
        columns[column] = pyarrow.Array.from_pandas(values)
    return pyarrow.table({name: _large(values) for name, values in columns.items()})


def _large(values: Any) -> Any:
    """Return text with 64-bit offsets, as SOMA has it; other values as they are."""
    import pyarrow

    kind = values.type
    if pyarrow.types.is_dictionary(kind):
        values = pyarrow.DictionaryArray.from_arrays(values.indices, _large(values.dictionary))
    return values.cast(pyarrow.large_string()) if pyarrow.types.is_string(kind) else values


def _write_sparse(layers: Any, x: Any, options: Any) -> None:
    import pyarrow

    kind = pyarrow.from_numpy_dtype(x.dtype)
    array = layers.add_new_sparse_ndarray("raw", type=kind, shape=x.shape, platform_config=options)
    coordinates = {"soma_dim_0": x.row.astype(np.int64), "soma_dim_1": x.col.astype(np.int64)}
    array.write(pyarrow.table({**coordinates, "soma_data": x.data}))


def write_census(root: Path, **organisms: Any) -> Path:
    """Write a Census of some organisms, each given as cells; its own notes say the date of the build."""
    import pyarrow
    import tiledbsoma

    tiledbsoma.Collection.create(str(root)).close()
    with tiledbsoma.Collection.open(str(root), "w") as census:
        data = census.add_new_collection("census_data")
        info = census.add_new_collection("census_info")
        schema = pyarrow.schema([("label", pyarrow.large_string()), ("value", pyarrow.large_string())])
        summary = info.add_new_dataframe("summary", schema=schema, domain=[(0, 1)])
        summary.write(
            pyarrow.table(
                {
                    "soma_joinid": pyarrow.array([0, 1], pyarrow.int64()),
                    "label": pyarrow.array(["census_schema_version", "census_build_date"], pyarrow.large_string()),
                    "value": pyarrow.array(["2.3.0", BUILD], pyarrow.large_string()),
                }
            )
        )
        for name, adata in organisms.items():
            path = write_experiment(root / "census_data" / name, adata)
            data.set(name, tiledbsoma.Experiment.open(str(path)), use_relative_uri=True)
    return root


def steady() -> Any:
    """Return a context to open stores with that are read outside a source."""
    import tiledbsoma

    return tiledbsoma.SOMATileDBContext(tiledb_config=dict(WITHOUT_MERGE))


def delete_cells(uri: Path, value_filter: str) -> None:
    """Take cells out of the obs table and out of the matrix of an experiment, so that joinids have gaps."""
    import tiledbsoma

    with tiledbsoma.Experiment.open(str(uri), "d", context=steady()) as experiment:
        experiment.obs_axis_delete(value_filter=value_filter)
