"""Known edges from transcription factors to genes, as files have them.

Layouts that are told by themselves:

* one edge a row, under headings such as ``tf`` and ``target``: DoRothEA and CollecTRI (``mor``, ``confidence``),
  TRRUST (``mode``; also as published, without headings), tables of users;
* one factor a row, its targets separated by commas;
* target genes of ChIP-Atlas: ``Target_genes``, ``<factor>|Average`` and further columns of single experiments;
* ``.gmt``, in which the first word of a set's name is the factor: ENCODE's sets of Enrichr.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from scmodelforge._errors import ConfigError, DataError, listed
from scmodelforge.eval.networks.config import NetworkConfig

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["EdgeTable", "read_edges"]

_TF = ("tf", "transcription_factor", "regulator", "source", "gene1")
_TARGET = ("target", "target_gene", "target_genes", "gene", "gene2")
_SIGN = ("mor", "mode", "sign", "effect")
_CONFIDENCE = ("confidence", "score", "weight")
_TRRUST = ("Activation", "Repression", "Unknown")
_ACTIVATES = frozenset({"activation", "activating", "activates", "positive", "up", "+"})
_REPRESSES = frozenset({"repression", "repressing", "represses", "inhibition", "negative", "down", "-"})
_SUFFIXES = (".csv", ".tsv", ".txt", ".gmt", ".parquet")


@dataclass(frozen=True, slots=True)
class EdgeTable:
    """Edges by the names of their genes, each pair once.

    Attributes
    ----------
    name
        Name of the network.
    tfs, targets
        Names of both ends, shape (E,), str.
    signs
        1 where the factor activates, -1 where it represses, 0 where that is unknown or contested, shape (E,), int8.
    facts
        How many rows were read, and how many of them dropped for what.
    """

    name: str
    tfs: np.ndarray
    targets: np.ndarray
    signs: np.ndarray
    facts: dict[str, int] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.tfs)


def read_edges(config: NetworkConfig) -> EdgeTable:
    """Read a network.

    Raises
    ------
    ConfigError
        If there is no such file, it is of a kind that is not read, or a column is missing.
    DataError
        If a confidence is no number though ``min_score`` is set, or no edge is left.
    """
    path = Path(config.path)
    if not path.exists():
        msg = f"network '{config.label}': no file or folder '{path}'; name a table of edges ({', '.join(_SUFFIXES)})."
        raise ConfigError(msg)
    files = sorted(each for each in path.iterdir() if _kind(each)) if path.is_dir() else [path]
    if not files:
        msg = f"network '{config.label}': no table of edges in {path}; {', '.join(_SUFFIXES)} are read."
        raise ConfigError(msg)
    import pandas as pd

    rows = pd.concat([_read_file(each, config) for each in files], ignore_index=True)
    facts = {"rows": len(rows)}
    has_names = (rows["tf"] != "") & (rows["target"] != "")
    facts["rows_without_name"] = int((~has_names).sum())
    is_confident = _is_confident(rows["confidence"].to_numpy(), config)
    facts["rows_below_confidence"] = int((has_names & ~is_confident).sum())
    rows = rows[has_names & is_confident]
    found = _merged(rows)
    facts["rows_repeated"] = len(rows) - len(found)
    wanted = {"any": (-1, 0, 1), "activation": (1,), "repression": (-1,)}[config.sign]
    kept = found[found["sign"].isin(wanted)]
    facts |= {"edges_of_other_sign": len(found) - len(kept), "edges": len(kept)}
    if len(kept) == 0:
        reasons = ", ".join(f"{count:,} {name.replace('_', ' ')}" for name, count in facts.items() if count)
        msg = f"network '{config.label}': no edge of {path} is left ({reasons or 'it is empty'}); choose other edges."
        raise DataError(msg)
    tfs, targets = (kept[end].to_numpy(dtype=str) for end in ("tf", "target"))
    return EdgeTable(config.label, tfs, targets, kept["sign"].to_numpy(dtype=np.int8), facts)


def _kind(path: Path) -> str | None:
    """Return the suffix that says how a file is read, if it is."""
    suffixes = [each for each in path.suffixes if each != ".gz"]
    return suffixes[-1] if suffixes and suffixes[-1] in _SUFFIXES else None


def _read_file(path: Path, config: NetworkConfig) -> pd.DataFrame:
    """Return the columns ``tf``, ``target``, ``sign`` and ``confidence`` of a file, one edge a row."""
    import pandas as pd

    kind = _kind(path)
    if kind is None:
        msg = f"network '{config.label}': '{path.name}' is not read; save it as one of {', '.join(_SUFFIXES)}."
        raise ConfigError(msg)
    try:
        if kind == ".gmt":
            return _of_gene_sets(path)
        table = _as_written(path, kind)
    except (UnicodeDecodeError, pd.errors.ParserError, pd.errors.EmptyDataError, OSError, ValueError) as problem:
        msg = f"{path}: not readable as a table of edges ({' '.join(str(problem).split())})."
        raise DataError(msg) from problem
    average = [name for name in table.columns if name.endswith("|Average")]
    if "Target_genes" in table.columns and average and config.tf_column is None:  # of ChIP-Atlas
        tf = average[0].removesuffix("|Average")
        return _frame([tf] * len(table), table["Target_genes"], confidence=table[average[0]])
    column = partial(_column, table, config.label)
    tf = column("tf_column", config.tf_column, _TF)
    target = column("target_column", config.target_column, _TARGET)
    sign = column("sign_column", config.sign_column, _SIGN, needed=config.sign != "any")
    needs_confidence = config.levels is not None or config.min_score is not None
    confidence = column("confidence_column", config.confidence_column, _CONFIDENCE, needed=needs_confidence)
    signs = [0] * len(table) if sign is None else [_sign(word) for word in table[sign]]
    edges = _frame(table[tf], table[target], signs, "" if confidence is None else table[confidence])
    edges["target"] = edges["target"].str.split(",")
    return edges.explode("target", ignore_index=True)


def _as_written(path: Path, kind: str) -> pd.DataFrame:
    import pandas as pd

    if kind == ".parquet":
        from scmodelforge._optional import require

        require("pyarrow", extra="parquet", why="Reading a parquet file")
        return pd.read_parquet(path).fillna("").astype(str)
    plain: dict[str, Any] = {"dtype": str, "keep_default_na": False, "sep": "," if kind == ".csv" else "\t"}
    table = pd.read_csv(path, **plain)
    if len(table.columns) == 4 and table.columns[2] in _TRRUST:  # as TRRUST publishes it
        return pd.read_csv(path, header=None, names=["tf", "target", "mode", "pmid"], **plain)
    return table


def _of_gene_sets(path: Path) -> pd.DataFrame:
    import gzip

    packed = path.read_bytes()
    text = (gzip.decompress(packed) if path.suffix == ".gz" else packed).decode("utf-8")
    tfs: list[str] = []
    targets: list[str] = []
    for line in text.splitlines():
        name, *genes = line.split("\t")
        genes = [gene.partition(",")[0] for gene in genes[1:]]  # after a description; some sets have weights
        tfs += [name.split()[0] if name.strip() else ""] * len(genes)
        targets += genes
    return _frame(tfs, targets)


def _frame(tfs: Any, targets: Any, signs: Any = 0, confidence: Any = "") -> pd.DataFrame:
    import pandas as pd

    found = pd.DataFrame({"tf": list(tfs), "target": list(targets)}, dtype=object)
    found["sign"] = signs
    found["confidence"] = confidence if isinstance(confidence, str) else list(confidence)
    return found


def _column(
    table: pd.DataFrame, name: str, setting: str, given: str | None, usual: tuple[str, ...], *, needed: bool = True
) -> str | None:
    """Return the column a setting names, or the first of the usual ones that is there."""
    by_name = {str(column).lower(): str(column) for column in reversed(table.columns)}
    found = next((by_name[each] for each in usual if each in by_name), None)
    if given is None and setting == "tf_column" and found == by_name.get("source") and "source_desc" in by_name:
        found = None  # Harmonizome calls the gene 'source' and the factor 'target', others the factor 'source'
    chosen = given if given is not None else found
    if (chosen is None and needed) or (given is not None and given not in table.columns):
        what = setting.removesuffix("_column")
        named = f"no column '{given}'" if given is not None else f"no column that is known to hold the {what}"
        msg = f"network '{name}': {named}; set {setting} to one of {listed([str(each) for each in table.columns], 8)}."
        raise ConfigError(msg)
    return chosen


def _sign(word: str) -> int:
    word = word.strip().lower()
    if word in _ACTIVATES or word in _REPRESSES:
        return 1 if word in _ACTIVATES else -1
    try:
        number = float(word)
    except ValueError:
        return 0
    return int(number > 0) - int(number < 0)


def _is_confident(confidence: np.ndarray, config: NetworkConfig) -> np.ndarray:
    kept = np.ones(len(confidence), dtype=bool)
    if config.levels is not None:
        kept &= np.isin(confidence.astype(str), config.levels)
    if config.min_score is not None:
        try:
            kept &= confidence.astype(np.float64) >= config.min_score
        except ValueError as problem:
            msg = (
                f"network '{config.label}': min_score is {config.min_score:g}, but a confidence is no number "
                f"({problem}); name the levels that count with 'levels', or another confidence_column."
            )
            raise DataError(msg) from problem
    return kept


def _merged(rows: pd.DataFrame) -> pd.DataFrame:
    """Return each pair once; of signs that disagree none is kept, unknown ones do not count."""
    grouped = rows.groupby(["tf", "target"], sort=True)["sign"].agg(["min", "max"]).reset_index()
    is_contested = (grouped["min"] < 0) & (grouped["max"] > 0)
    grouped["sign"] = np.where(is_contested, 0, grouped["min"] + grouped["max"]).clip(-1, 1)
    return grouped
