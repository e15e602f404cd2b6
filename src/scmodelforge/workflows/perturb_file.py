"""In-silico perturbation of the cells of a file, as a table beside it or in a copy of it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from scmodelforge._errors import DataError
from scmodelforge._wording import in_words_of
from scmodelforge.hub.load import load_model
from scmodelforge.workflows.copies import check_copy, put_uns, write_copy
from scmodelforge.workflows.outputs import check_output, whole_file
from scmodelforge.workflows.perturb import perturb_cells
from scmodelforge.workflows.perturbing import IN_COMMAND, Perturbing
from scmodelforge.workflows.ready_cells import open_cells, ready_cells

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["UNS_KEY", "perturb_file"]

UNS_KEY = "scmodelforge_perturb"
_SHOWN = 5


def perturb_file(
    data: Path,
    out: Path,
    *,
    model: str | Path,
    asked: dict[str, Any],
    batch_size: int,
    layer: str | None = None,
    gene_id_column: str | None = None,
    dictionaries: Path | None = None,
    trust_plugins: bool = False,
    force: bool = False,
) -> list[str]:
    """Perturb the cells of an .h5ad file.

    Parameters
    ----------
    data, out
        The cells, and what is written: a ``.csv`` with the table, and beside it ``OUT.json`` that says where the
        numbers come from; or an ``.h5ad``, a copy of the cells with both in ``uns['scmodelforge_perturb']``.
    model
        Address of the model.
    asked
        Fields of :class:`~scmodelforge.workflows.perturbing.Perturbing`.
    batch_size, layer, gene_id_column, dictionaries, trust_plugins, force
        As of :func:`~scmodelforge.workflows.embed.embed_file`.

    Returns
    -------
    Closing lines for the user.
    """
    with in_words_of(IN_COMMAND):
        _check_out(data, out, force=force)
        wanted = Perturbing(**asked)
        bundle = load_model(model, dictionaries=dictionaries, trust_plugins=trust_plugins)
        source = open_cells(data, layer=layer, gene_id_column=gene_id_column)
        try:
            cells = ready_cells(bundle, source)
            table, facts = perturb_cells(bundle, cells, wanted, batch_size=batch_size)
        finally:
            source.close()
    if out.suffix == ".h5ad":
        write_copy(data, out, lambda file: put_uns(file, UNS_KEY, {**facts, "table": table}))
    else:
        _write_table(table, facts, out)
    return [
        f"{facts['genes_known']:,} of {facts['genes_total']:,} genes are in the model's vocabulary; "
        f"{facts['cells_perturbed']:,} cells perturbed",
        *_first_rows(table),
        f"effects: {out} ({len(table):,} rows)",
    ]


def _check_out(data: Path, out: Path, *, force: bool) -> None:
    if out.suffix not in (".csv", ".h5ad"):
        msg = f"{out} is neither a .csv file, for the table, nor an .h5ad file, for a copy with it; name one of these."
        raise DataError(msg)
    check_copy(data, out, force=force)
    if out.suffix == ".csv":
        check_output(_beside(out), force=force)


def _beside(out: Path) -> Path:
    return out.with_name(out.name + ".json")


def _write_table(table: pd.DataFrame, facts: dict[str, Any], out: Path) -> None:
    """Write both files beside themselves first; the table, which a user looks for, gets its name last."""
    texts = {_beside(out): json.dumps(facts, indent=2) + "\n", out: table.to_csv(index=False)}
    for path, text in texts.items():
        with whole_file(path):
            temporary = path.with_name(path.name + ".writing")
            temporary.write_text(text)
            temporary.replace(path)


def _first_rows(table: pd.DataFrame) -> list[str]:
    measure = "goal_shift" if "goal_shift" in table else "shift"
    extra = [name for name in table.columns[3:4] if name != "num_cells"]
    rows = table.head(_SHOWN)
    return [
        "  ".join(
            [
                str(row["symbol"]),
                *(str(row[name]) for name in extra),
                f"{measure} {row[measure]:+.4f} in {row['num_cells']:,} cells, random {row['random_shift']:+.4f}, "
                f"fdr {row['fdr']:.2g}",
            ]
        )
        for _, row in rows.iterrows()
    ]
