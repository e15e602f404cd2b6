"""Classifiers of cells made of Geneformer, as its official code and ``transformers`` save them.

Theodoris et al. 2023, doi:10.1038/s41586-023-06139-9. Weights are those of the body of a Geneformer with the head of
BERT's sequence classifier. The names of the classes stand in ``config.json``; where they stand for nothing
(``LABEL_0``, ``LABEL_1``, ...), those of the official code's ``*_id_class_dict.pkl`` are taken, if it is in the folder.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

from scmodelforge._errors import DataError
from scmodelforge._json_files import read_json_object
from scmodelforge.config.preprocessing import PreprocessingConfig
from scmodelforge.data.preprocess import Preprocessor
from scmodelforge.hub.bundle import Bundle
from scmodelforge.hub.importers.base import Imported, LoadReport, check_files, imported_from, register_importer
from scmodelforge.hub.importers.geneformer import BODY, embedding_as_published, geneformer_tokenizer
from scmodelforge.models.components.special_tokens import apply_special_tokens
from scmodelforge.models.fine_tuned import FineTuneModel
from scmodelforge.models.published.geneformer import geneformer_config, geneformer_weights_file
from scmodelforge.models.published.geneformer_classifier import (
    class_names,
    geneformer_classifier_config,
    is_cell_classifier,
    open_geneformer_classifier,
)
from scmodelforge.tokenizers._plain_pickle import read_plain_pickle

__all__ = ["GeneformerClassifierImporter"]

#: What the obs column of the classes is called, which the files do not say.
_COLUMN = "cell_type"
_CLASSES = "*_id_class_dict.pkl"


@register_importer("geneformer-classifier")
class GeneformerClassifierImporter:
    """Reads a Geneformer that names the class of a cell."""

    def recognises(self, folder: Path) -> bool:
        """Tell whether a folder holds such a model, by the kind of model that its settings name."""
        try:
            return is_cell_classifier(read_json_object(folder / "config.json", ""))
        except DataError:
            return False

    def load(
        self, folder: Path, *, dictionaries: Path | None = None, sha256: Mapping[str, str] | None = None
    ) -> Imported:
        """Read the model; the parameters and errors are those of :meth:`Importer.load`."""
        path, classes = geneformer_weights_file(folder), sorted(folder.glob(_CLASSES))
        files = check_files(folder, ["config.json", path.name, *(each.name for each in classes)], sha256=sha256)
        settings, origin = read_json_object(folder / "config.json", "take all files"), str(folder / "config.json")
        body = geneformer_config(settings, origin=origin)
        tokenizer, read = geneformer_tokenizer(folder, body, dictionaries=dictionaries)
        body = embedding_as_published(body)  # whatever the head reads
        config = geneformer_classifier_config(settings, origin=origin, backbone=body)
        model, found = open_geneformer_classifier(folder, config)
        everything = (*BODY, "bert.pooler.", "classifier.")
        report = LoadReport(found.matched, found.missing, found.unexpected, found.reshaped, body=everything)
        report.check(str(path))
        apply_special_tokens(model, tokenizer.vocab)
        bundle = Bundle(
            model=model,
            model_config=config,
            tokenizer=tokenizer,
            vocab=tokenizer.vocab,
            preprocessor=Preprocessor(PreprocessingConfig()),
            objective=FineTuneModel.default_objective,
            labels={"column": _COLUMN, "categories": _names(class_names(settings, origin=origin), classes)},
            fingerprint=imported_from("geneformer-classifier", folder, files, read),
        )
        return Imported(bundle, report)


def _names(given: list[str], files: list[Path]) -> list[str]:
    """Return the names of the classes: those given, unless they stand for nothing and a dictionary has better ones."""
    if not files or not all(re.fullmatch(r"LABEL_\d+", name) for name in given):
        return given
    if len(files) > 1:
        msg = f"{files[0].parent} has {len(files)} files {_CLASSES}; leave the one that belongs to the model."
        raise DataError(msg)
    (path,) = files
    found = read_plain_pickle(path, path.read_bytes(), keys=int)
    names = [str(found.get(number)) for number in range(len(given))]
    if found.keys() != {*range(len(given))} or len({*names}) < len(names):
        msg = (
            f"{path} does not give each of the classes 0 to {len(given) - 1} a name of its own; take the file that "
            "belongs to the model."
        )
        raise DataError(msg)
    return names
