"""``scmodelforge convert``: any AnnData files as one shuffled, sharded zarr collection."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from scmodelforge import _console
from scmodelforge._errors import ConfigError


def convert(
    inputs: Annotated[
        list[str] | None, typer.Argument(metavar="IN...", help="Files or patterns; their genes may differ.")
    ] = None,
    out: Annotated[Path, typer.Argument(metavar="OUT.zarr", help="Folder to write.", show_default=False)] = Path(),
    verify: Annotated[
        bool, typer.Option("--verify", help="Only check OUT.zarr against its checksums; status 1 if it is damaged.")
    ] = False,
    layer: Annotated[str | None, typer.Option(help="Matrix to take: X, raw or a layer's name.")] = None,
    gene_id_column: Annotated[str | None, typer.Option(help="var column with gene ids; default: looked for.")] = None,
    dtype: Annotated[
        str, typer.Option(help="Type of the values, such as uint16; auto keeps the files'. Nothing is rounded.")
    ] = "auto",
    shuffle: Annotated[bool, typer.Option("--shuffle/--no-shuffle", help="Permute the cells.")] = True,
    seed: Annotated[int, typer.Option(min=0, help="What the permutation depends on.")] = 0,
    memory: Annotated[str, typer.Option(help="Memory to take.")] = "2GB",
    dataset_cells: Annotated[int, typer.Option(min=1, help="Most cells of a data set of the collection.")] = 1 << 20,
    shard_size: Annotated[str, typer.Option(help="Size of a file with values, before compression.")] = "1GB",
    threads: Annotated[int | None, typer.Option(min=1, help="Threads; default one a core, at most 4.")] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace OUT.zarr if it exists.")] = False,
) -> None:
    """Write AnnData files as one shuffled zarr collection, which anndata, scanpy and annbatch read too.

    Memory is bounded, an interrupted call goes on when repeated, and what was written is checked with --verify.
    Exit status: 0 when done, 1 when interrupted or when --verify finds damage, 2 for what cannot be done as asked.

    Example: scmodelforge convert lung.h5ad blood.h5ad cells.zarr --dtype uint16
    """
    from scmodelforge.workflows import convert as workflow

    if verify:
        _verify(inputs or [], out)
        return
    if not inputs:
        msg = "convert needs what to read and what to write: scmodelforge convert cells.h5ad cells.zarr"
        raise ConfigError(msg)
    lines = workflow.convert(
        inputs,
        out,
        layer=layer,
        gene_id_column=gene_id_column,
        dtype=dtype,
        shuffle=shuffle,
        seed=seed,
        memory=memory,
        dataset_cells=dataset_cells,
        shard_size=shard_size,
        num_threads=threads,
        force=force,
    )
    for line in lines:
        _console.say(line)


def _verify(inputs: list[str], out: Path) -> None:
    from scmodelforge.workflows.convert import DamageError, verify

    if inputs:
        msg = f"--verify checks one collection, and {len(inputs) + 1} paths were given."
        raise ConfigError(msg)
    try:
        lines = verify(out)
    except DamageError as problem:
        _console.error(str(problem))
        raise typer.Exit(1) from problem
    for line in lines:
        _console.say(line)
