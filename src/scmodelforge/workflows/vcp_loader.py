"""Embeds the cells of AnnData files with the model beside it. MLflow loads it, and it runs as a script too.

    python scmodelforge_vcp.py cells.h5ad embedded.h5ad

It is a file of scModelForge that is copied into a package as it is.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pandas as pd

KEY = "X_scmodelforge"


class CellModel:
    """A model as MLflow knows it.

    Parameters
    ----------
    folder
        Model folder. Python files that it names are imported, as this one was.
    """

    def __init__(self, folder: str | Path) -> None:
        from scmodelforge.workflows.embedder import CellEmbedder

        self.embedder = CellEmbedder(folder, trust_plugins=True)

    def predict(self, model_input: pd.DataFrame, params: dict[str, Any] | None = None) -> pd.DataFrame:
        """Embed the cells of some files.

        Parameters
        ----------
        model_input
            One row for each file: ``input_uri`` is an .h5ad file with counts; ``output_uri``, if given, the file to
            write, the input with the embeddings in ``obsm``.
        params
            Not used.

        Returns
        -------
        One row for each cell, by its name, with NaN for cells without a known gene; files one after another.
        """
        import pandas as pd

        rows = [self._embed(**row) for row in model_input.to_dict(orient="records")]
        return pd.concat(rows)

    def _embed(self, input_uri: str, output_uri: str | None = None) -> pd.DataFrame:
        import anndata
        import pandas as pd

        adata = anndata.read_h5ad(input_uri.removeprefix("file://"))
        adata.obsm[KEY] = self.embedder.get_embeddings(self.embedder.process_data(adata))
        if isinstance(output_uri, str):
            adata.write_h5ad(output_uri.removeprefix("file://"))
        return pd.DataFrame(adata.obsm[KEY], index=adata.obs_names)


def _load_pyfunc(path: str) -> CellModel:
    """Return the model in a folder, as MLflow asks for it."""
    return CellModel(path)


def main(arguments: list[str]) -> None:
    """Embed the cells of a file into another one, with the model folder beside this file's."""
    import pandas as pd

    source, target = arguments
    model = CellModel(Path(__file__).parents[1] / "data")
    model.predict(pd.DataFrame({"input_uri": [source], "output_uri": [target]}))


if __name__ == "__main__":
    main(sys.argv[1:])
