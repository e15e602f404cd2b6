"""Settings of a run that predicts connectivity of brain regions: the section ``connectome`` of a settings file."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field, SerializeAsAny, model_validator

from scmodelforge.config.section import Section

__all__ = [
    "ConnectomeConfig",
    "ConnectomeDataConfig",
    "ConnectomeFile",
    "ConnectomeModelConfig",
    "ConnectomeOutputConfig",
    "ConnectomeSplitConfig",
    "ConnectomeTrainingConfig",
    "PlantedConfig",
]


class PlantedConfig(Section):
    """A brain with a known rule, made in memory; by default a smaller one than that of ``planted_regions()``."""

    num_regions: int = Field(120, ge=8)
    """Regions, half of them on each side."""
    num_genes: int = Field(24, ge=2)
    """Genes."""
    num_rules: int = Field(3, ge=1)
    """Pairs of a ligand and a receptor that connectivity follows from."""
    signal_share: float = Field(0.7, ge=0, le=1)
    """Share of the variance of connectivity that comes from them."""
    distance_share: float = Field(0.1, ge=0, le=1)
    """Share that comes from distance; the rest is strong and weak regions, and noise."""
    seed: int = Field(0, ge=0)
    """Base of what is drawn."""


class ConnectomeDataConfig(Section):
    """Regions, their expression and their connectivity."""

    path: str | None = None
    """File of expression, and but for CSV of all else: npz, h5ad, zarr, csv or tsv. ``None`` plants a brain."""
    target: str | None = None
    """Which connectivity: the name of an array, of an entry of ``obsp``, or for CSV its file."""
    coords: str | None = None
    """For CSV the file of coordinates; for others their name, where it is not ``coords`` or ``spatial``."""
    missing: Literal["refuse", "drop"] = "refuse"
    """What becomes of regions with missing values."""
    directed: bool = False
    """Whether connectivity has a direction; without, a matrix that is not symmetric is refused."""
    max_genes: int | None = Field(None, ge=1)
    """Genes that the model takes: those that vary most over the regions it is trained on. Baselines take all."""
    planted: PlantedConfig | None = None
    """The brain that is planted; ``None`` is one with the defaults, where there is no ``path``."""

    @model_validator(mode="after")
    def _has_one_origin(self) -> ConnectomeDataConfig:
        if self.path is not None and self.planted is not None:
            msg = f"path ({self.path}) and planted both say where regions come from; keep one of them"
            raise ValueError(msg)
        of_files = {"target": None, "coords": None, "missing": "refuse", "directed": False}
        unused = [name for name, default in of_files.items() if getattr(self, name) != default]
        if self.path is None and unused:
            msg = f"{unused[0]} has no effect without path; name the file with path, or leave it out"
            raise ValueError(msg)
        return self


class ConnectomeSplitConfig(Section):
    """Which regions are held out."""

    strategy: Literal["random", "spatial", "homotopic", "network"] = "random"
    """What is held out together: nothing, neighbours, a region and its twin in the other hemisphere, or networks."""
    folds: int | None = Field(None, ge=2)
    """Folds, each region held out once; ``None`` is 4, or with ``network`` as many as there are networks."""
    test_share: float | None = Field(None, gt=0, lt=1)
    """Instead of folds, hold out this share of the regions, once for each seed."""
    seeds: list[int] = Field(default_factory=lambda: [0], min_length=1)
    """For each of them regions are drawn and models trained anew."""

    @model_validator(mode="after")
    def _says_it_once(self) -> ConnectomeSplitConfig:
        if self.folds is not None and self.test_share is not None:
            msg = f"folds ({self.folds}) and test_share ({self.test_share:g}) both say what to hold out; keep one"
            raise ValueError(msg)
        if self.folds is not None and self.strategy == "network":
            msg = "folds has no effect with strategy 'network', which holds out one network after another; leave it out"
            raise ValueError(msg)
        if min(self.seeds) < 0 or len(set(self.seeds)) < len(self.seeds):
            msg = f"seeds are {self.seeds}; different whole numbers of at least 0 are needed"
            raise ValueError(msg)
        return self


class ConnectomeModelConfig(Section):
    """The model. Its other settings are the arguments of its class; see :func:`~.connectome.model_section`."""

    name: str = "cross_attention_gene2vec"
    """Registered name of the model."""


class ConnectomeTrainingConfig(Section):
    """How the model is trained."""

    learning_rate: float = Field(1e-3, gt=0)
    """Of AdamW."""
    weight_decay: float = Field(0.0, ge=0)
    """Of AdamW."""
    batch_size: int = Field(512, ge=2)
    """Pairs of a step."""
    epochs: int = Field(100, ge=1)
    """Passes over the pairs of training."""
    cosine_lr: bool = False
    """The learning rate rises over a tenth of the steps and falls to 0; else it stays."""
    lambda_sym: float = Field(0.0, ge=0)
    """Weight of the difference of what is predicted for a pair and for its mirror image."""
    validation_share: float = Field(0.2, ge=0, le=0.5)
    """Share of the training regions by whose pairs the epoch is chosen that is kept; 0 keeps the last one and trains
    on all of them."""
    accelerator: Literal["auto", "cpu", "gpu", "mps"] = "auto"
    """Where it is trained."""


class ConnectomeOutputConfig(Section):
    """Where results go."""

    run_dir: str | None = None
    """The run's folder; ``None`` is ``runs/`` and the name of the settings file, without one of your own that of the
    data file, and ``runs/connectome`` for a planted brain."""


class ConnectomeConfig(Section):
    """A run that predicts connectivity of brain regions."""

    data: ConnectomeDataConfig = Field(default_factory=ConnectomeDataConfig)
    """Regions, their expression and their connectivity."""
    split: ConnectomeSplitConfig = Field(default_factory=ConnectomeSplitConfig)
    """Which regions are held out."""
    model: SerializeAsAny[ConnectomeModelConfig] = Field(default_factory=ConnectomeModelConfig)
    """The model."""
    training: ConnectomeTrainingConfig = Field(default_factory=ConnectomeTrainingConfig)
    """How it is trained."""
    baselines: list[str] | None = None
    """Baselines on the same folds; ``None`` is all. Always among them is ``kronecker_ridge_coords``, which knows
    coordinates alone."""
    output: ConnectomeOutputConfig = Field(default_factory=ConnectomeOutputConfig)
    """Where results go."""


class ConnectomeFile(Section):
    """A settings file of such a run."""

    connectome: ConnectomeConfig = Field(default_factory=ConnectomeConfig)
    """The run."""

    def to_dict(self) -> dict[str, Any]:
        """Return all settings as plain values."""
        return self.model_dump(mode="json")
