"""scGPT as published: values of genes, each cell's binned at its own quantiles.

Cui et al. 2024, doi:10.1038/s41592-024-02201-0. A folder has ``args.json``, ``best_model.pt`` and ``vocab.json``.
Counts need no normalisation: bins of a cell do not depend on its library size. Where a value may be in several bins,
the official code draws one; here it has the one in the middle, so that a cell has one embedding. The class names of a
classifier of cells are in none of the files.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from scmodelforge.config.preprocessing import PreprocessingConfig
from scmodelforge.data.preprocess import Preprocessor
from scmodelforge.hub.bundle import Bundle
from scmodelforge.hub.importers.base import Imported, LoadReport, check_files, imported_from, register_importer
from scmodelforge.models.published.scgpt import open_scgpt
from scmodelforge.models.scgpt import ScGPT
from scmodelforge.tokenizers.presets import get_preset

__all__ = ["ScGPTImporter"]

_FILES = ("args.json", "best_model.pt", "vocab.json")
_BODY = ("encoder.", "flag_encoder.", "value_encoder.", "transformer_encoder.")


@register_importer("scgpt")
class ScGPTImporter:
    """Reads an scGPT."""

    def recognises(self, folder: Path) -> bool:
        """Tell whether a folder holds such a model."""
        return (folder / "args.json").is_file() and (folder / "vocab.json").is_file()

    def load(
        self, folder: Path, *, dictionaries: Path | None = None, sha256: Mapping[str, str] | None = None
    ) -> Imported:
        """Read the model, which has its vocabulary beside it: ``dictionaries`` are not needed.

        The parameters and errors are those of :meth:`Importer.load`.
        """
        files = check_files(folder, _FILES, sha256=sha256)
        model, found = open_scgpt(folder)
        report = LoadReport(found.matched, found.missing, found.unexpected, found.reshaped, body=_BODY)
        report.check(str(folder / "best_model.pt"))
        tokenizer = get_preset("scgpt").make(folder, {"ties": "mid", "max_genes": model.config.max_seq_len})
        bundle = Bundle(
            model=model,
            model_config=model.config,
            tokenizer=tokenizer,
            vocab=tokenizer.vocab,
            preprocessor=Preprocessor(PreprocessingConfig()),
            objective=model.config.pretraining_task or ScGPT.default_objective,
            fingerprint={**imported_from("scgpt", folder, files), "values": "linear"},
        )
        return Imported(bundle, report)
