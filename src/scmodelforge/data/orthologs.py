"""Genes of other species under the names of their human orthologs.

What becomes of a gene of another species:

==============  =========================================================================================
policy          the gene has
==============  =========================================================================================
``one_to_one``  the token of its human ortholog, if each of the two has no other ortholog
``one_to_many`` the token of its human ortholog, of several that of highest confidence, then lowest id; the counts
                of several genes with one human ortholog are summed
``drop``        no token
==============  =========================================================================================

A symbol that the species shares with human genes is read as the human one; one that stands for several genes of the
species is read only if they have one token.
"""

from __future__ import annotations

import gzip
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Literal

from scmodelforge._errors import ConfigError, DataError, nearest
from scmodelforge.data.genes import human_genes, read_shipped, strip_version

__all__ = ["SHIPPED_SPECIES", "OrthologPair", "Policy", "human_genes_of", "read_orthologs"]

Policy = Literal["one_to_one", "one_to_many", "drop"]

#: Species whose table of orthologs ships with the package.
SHIPPED_SPECIES = ("mouse",)
_COLUMNS = ("human", "human_symbol", "gene", "symbol", "confidence")
_NEEDED = ("human", "gene")


@dataclass(frozen=True, slots=True)
class OrthologPair:
    """A human gene and its ortholog in another species.

    Attributes
    ----------
    human, human_symbol
        Id and symbol of the human gene; the symbol may be empty.
    gene, symbol
        Id and symbol of the other species' gene; the symbol may be empty.
    confidence
        How sure the pair is, higher is surer; 0 where it is not said.
    """

    human: str
    human_symbol: str
    gene: str
    symbol: str
    confidence: float


def read_orthologs(species: str) -> list[OrthologPair]:
    """Return the orthologs of a species: ``mouse``, or what a table in a file says.

    A table is text with a tab between columns, packed with gzip or not. Its first line names the columns: ``human``
    and ``gene`` (ids of both genes), and perhaps ``human_symbol``, ``symbol`` and ``confidence`` (a number). Other
    columns are not read.

    Raises
    ------
    ConfigError
        If the species is neither known nor a file.
    DataError
        If the file is not such a table.
    """
    if species in SHIPPED_SPECIES:
        return _shipped(species)
    path = Path(species).expanduser()
    if not path.is_file():
        msg = (
            f"data.orthologs.species: no table for '{species}' and no such file.{nearest(species, SHIPPED_SPECIES)} "
            f"It may be {', '.join(SHIPPED_SPECIES)}, or a TSV file with the columns human and gene."
        )
        raise ConfigError(msg)
    return _read_table(path)


def human_genes_of(species: Iterable[str], policy: Policy) -> dict[str, tuple[str, ...]]:
    """Return the names of the human gene that each name of a gene of other species stands for.

    Parameters
    ----------
    species
        Species or files, as :func:`read_orthologs` takes them.
    policy
        What becomes of their genes.

    Returns
    -------
    For each id and symbol of a gene of these species, id and symbol of the human gene; nothing, ``()``, for genes
    that the policy gives none.
    """
    known = human_genes()
    found: dict[str, tuple[str, ...]] = {}
    for each in species:
        of_species = _of_shipped(each, policy) if each in SHIPPED_SPECIES else _of_one(read_orthologs(each), policy)
        for name, human in of_species.items():
            if name in known.ensembl_of or name in known.symbol_of:
                continue
            if found.setdefault(name, human) != human:
                found[name] = ()
    return found


def _of_one(pairs: Sequence[OrthologPair], policy: Policy) -> dict[str, tuple[str, ...]]:
    num_human, num_other = Counter(pair.gene for pair in pairs), Counter(pair.human for pair in pairs)
    best: dict[str, OrthologPair] = {}
    for pair in sorted(pairs, key=lambda pair: (-pair.confidence, pair.human)):
        best.setdefault(pair.gene, pair)
    found: dict[str, tuple[str, ...]] = {}
    for gene, pair in sorted(best.items()):
        is_alone = num_human[gene] == 1 and num_other[pair.human] == 1
        is_read = policy == "one_to_many" or (policy == "one_to_one" and is_alone)
        human = tuple(filter(None, (pair.human, pair.human_symbol))) if is_read else ()
        found[gene] = human
        if pair.symbol and found.setdefault(pair.symbol, human) != human:
            found[pair.symbol] = ()
    return found


@cache
def _of_shipped(species: str, policy: Policy) -> dict[str, tuple[str, ...]]:
    return _of_one(_shipped(species), policy)


@cache
def _shipped(species: str) -> list[OrthologPair]:
    rows = read_shipped(f"human_{species}_orthologs.tsv.gz")
    return [OrthologPair(row[0], row[1], row[2], row[3], float(row[4])) for row in rows]


def _read_table(path: Path) -> list[OrthologPair]:
    try:
        packed = path.read_bytes()
        text = (gzip.decompress(packed) if packed[:2] == b"\x1f\x8b" else packed).decode("utf-8-sig")
    except (OSError, EOFError, UnicodeDecodeError) as problem:
        msg = f"{path}: not readable as a table of orthologs ({problem}); a TSV file with human and gene is needed."
        raise DataError(msg) from problem
    lines = [(number, line.split("\t")) for number, line in enumerate(text.splitlines(), start=1) if line.strip()]
    heading = lines[0][1] if lines else []
    missing = [name for name in _NEEDED if name not in heading]
    if missing or len(lines) < 2:
        what = f"no column '{missing[0]}' in its first line" if missing else "no pair of genes in it"
        msg = f"{path}: {what}; a table of orthologs has the columns human and gene, a tab between them, a pair a line."
        raise DataError(msg)
    places = {name: heading.index(name) for name in _COLUMNS if name in heading}
    pairs = {}
    for number, line in lines[1:]:
        pair = _pair({name: line[place].strip() for name, place in places.items() if place < len(line)})
        if pair is None:
            msg = f"{path}, line {number}: '{line[0]}' is no pair; give ids of both genes and a number as confidence."
            raise DataError(msg)
        pairs[pair.human, pair.gene] = pair
    return list(pairs.values())


def _pair(row: dict[str, str]) -> OrthologPair | None:
    human, gene = (strip_version(row.get(name, "")) for name in _NEEDED)
    try:
        confidence = float(row.get("confidence") or 0)
    except ValueError:
        return None
    if not human or not gene:
        return None
    return OrthologPair(human, row.get("human_symbol", ""), gene, row.get("symbol", ""), confidence)
