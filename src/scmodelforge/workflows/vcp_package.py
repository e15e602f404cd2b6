"""A model as a package for CZI's Virtual Cells Platform, as far as its public command line says what that is.

From vcp-cli 0.54 (MIT) come the names of files and folders and the fields of the metadata that its ``model`` commands
read; from MLflow's documentation the format of a Python-function model. No file is a pickle.

====================================================  ============================================================
``model_card_docs/model_card_metadata.yaml``          fields that ``vcp model submit`` reads
``model_card_docs/model_card_details.md``             the card
``mlflow_pkg/model_data/``                            the model folder; ``vcp model stage`` uploads what is in it
``mlflow_pkg/mlflow_model_artifact/``                 the model as MLflow loads it, with the code that embeds cells
====================================================  ============================================================
"""

from __future__ import annotations

import os
import platform
import shutil
from pathlib import Path
from typing import Any

import yaml

from scmodelforge import __version__
from scmodelforge.hub.bundle import Bundle, save_bundle
from scmodelforge.workflows import vcp_loader
from scmodelforge.workflows.card_metadata import card_title
from scmodelforge.workflows.card_text import body_of, stated_licence

__all__ = ["MODEL_DATA", "write_package"]

_PACKAGE = "mlflow_pkg"
MODEL_DATA = f"{_PACKAGE}/model_data"
_LOADER = "scmodelforge_vcp"
_FILL_IN = "# Before 'vcp model submit' fill in what is empty: {}.\n"


def write_package(bundle: Bundle, card: str, folder: Path) -> tuple[Path, list[str]]:
    """Write the package into a new folder.

    Returns
    -------
    Where in it the model folder is, and lines for the user.
    """
    data, artifact, docs = folder / MODEL_DATA, folder / _PACKAGE / "mlflow_model_artifact", folder / "model_card_docs"
    save_bundle(data, bundle, card=card)
    shutil.copytree(data, artifact / "data", copy_function=_link)
    (artifact / "code").mkdir()
    shutil.copyfile(vcp_loader.__file__, artifact / "code" / f"{_LOADER}.py")
    for name, content in _artifact_files().items():
        (artifact / name).write_text(content, encoding="utf-8")
    docs.mkdir()
    fields, empty = _metadata(bundle, card)
    (docs / "model_card_metadata.yaml").write_text(_FILL_IN.format(", ".join(empty)) + _yaml(fields), encoding="utf-8")
    (docs / "model_card_details.md").write_text(body_of(card), encoding="utf-8")
    return Path(MODEL_DATA), [
        f"fill in before you submit it: {', '.join(empty)} in model_card_docs/model_card_metadata.yaml",
        "next: vcp model init --work-dir WORK, copy both folders into WORK, then vcp model validate-metadata, stage "
        "and submit (docs/sharing.md says what of this was checked)",
    ]


def _artifact_files() -> dict[str, str]:
    """Return the files beside code and data that MLflow reads, by name."""
    python = platform.python_version()
    requirements = [f"scmodelforge=={__version__}", "mlflow>=2"]
    flavour = {
        "loader_module": _LOADER,
        "code": "code",
        "data": "data",
        "env": {"conda": "conda.yaml", "virtualenv": "python_env.yaml"},
        "python_version": python,
    }
    conda = {"name": "mlflow-env", "channels": ["conda-forge"], "dependencies": [f"python={python}", "pip",
             {"pip": requirements}]}  # fmt: skip
    environment = {"python": python, "build_dependencies": ["pip"], "dependencies": ["-r requirements.txt"]}
    return {
        "MLmodel": _yaml({"flavors": {"python_function": flavour}}),
        "conda.yaml": _yaml(conda),
        "python_env.yaml": _yaml(environment),
        "requirements.txt": "".join(f"{line}\n" for line in requirements),
    }


def _metadata(bundle: Bundle, card: str) -> tuple[dict[str, Any], list[str]]:
    """Return the fields of the metadata, and which of them are empty since nobody stated them."""
    licence = stated_licence(card)
    cells = bundle.fingerprint.get("num_train")
    trained = f", trained on {cells:,} cells" if cells else ""
    fields: dict[str, Any] = {
        "model_display_name": card_title(bundle),
        "model_version": "",
        "model_description": (
            f"Embeds cells by their counts: {card_title(bundle)}, objective {bundle.objective}, "
            f"{len(bundle.vocab.genes):,} genes{trained}. Made with scModelForge {__version__}."
        ),
        "licenses": [{"name": licence, "type": licence}] if licence else [],
        "repository_link": "",
        "authors": [],
    }
    return fields, [name for name, value in fields.items() if not value]


def _link(source: str, target: str) -> str:
    """Have a file in two places of the package but once on the disk, where that is possible."""
    try:
        os.link(source, target)
    except OSError:
        shutil.copyfile(source, target)
    return target


def _yaml(value: Any) -> str:
    return yaml.safe_dump(value, sort_keys=False, allow_unicode=True, width=1000)
