"""Dictionaries of a small model in the forms in which published ones come."""

from __future__ import annotations

import hashlib
import pickle
from pathlib import Path

import numpy as np

from scmodelforge.tokenizers.dictionaries import GeneformerRelease, Published

GENES = [f"ENSG{i:011d}" for i in range(1, 13)]
MEDIANS = {gene: 0.5 + 0.25 * i for i, gene in enumerate(GENES)}
NAMES = {gene: f"NAME{i}" for i, gene in enumerate(GENES)}
SPECIAL = {"V1": ["<pad>", "<mask>"], "V2": ["<pad>", "<mask>", "<cls>", "<eos>"]}
#: Id, alias, retired ids of the first two genes, and an id of a gene that is not in the vocabulary.
MAPPING = {
    **{gene: gene for gene in GENES},
    "NAME0": GENES[0],
    "ENSG00000000091": GENES[0],
    "ENSG00000000092": GENES[1],
    "OTHER": "ENSG00000000099",
}


def token_ids(version: str) -> dict[str, int]:
    return {token: i for i, token in enumerate([*SPECIAL[version], *GENES])}


def write_tables(folder: Path, version: str = "V2") -> Path:
    """Write the dictionaries as tables; return the folder."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    folder.mkdir(parents=True, exist_ok=True)
    lines = ["token_id\ttoken\tnonzero_median\tgene_name"]
    for token, i in token_ids(version).items():
        lines.append(f"{i}\t{token}\t{MEDIANS.get(token, '')}\t{NAMES.get(token, '')}")
    (folder / f"vocab_{version}.tsv").write_text("\n".join(lines) + "\n")
    mapping = MAPPING if version == "V2" else {gene: gene for gene in GENES}
    table = pa.table({"key": list(mapping), "ensembl_id": list(mapping.values())})
    pq.write_table(table, folder / f"id_mapping_{version}.parquet")
    return folder


def write_pickles(folder: Path, **changes) -> GeneformerRelease:
    """Write the dictionaries as pickles, with numpy's int16 among the ids as V1 has them; return their description."""
    folder.mkdir(parents=True, exist_ok=True)
    ids = {token: np.int16(i) if i % 3 == 2 else i for token, i in token_ids("V2").items()}
    content = {
        "tokens": ids,
        "medians": {**MEDIANS, "ENSG00000000099": np.float64(3.5)},
        "mapping": MAPPING,
        "names": {name: gene for gene, name in NAMES.items()},
        **changes,
    }
    files = {}
    for kind, value in content.items():
        packed = pickle.dumps(value, protocol=4)
        (folder / f"{kind}.pkl").write_bytes(packed)
        files[kind] = Published(f"{kind}.pkl", "some/folder", hashlib.sha256(packed).hexdigest())
    return GeneformerRelease("small-v2", "V2", **files)
