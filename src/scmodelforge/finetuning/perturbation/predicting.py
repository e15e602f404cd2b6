"""What a model predicts for perturbations of control cells."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch

from scmodelforge._errors import ConfigError, DataError, listed
from scmodelforge.data.vocab import GeneVocab
from scmodelforge.eval.embed import evaluating
from scmodelforge.eval.perturbation.conditions import Conditions, Group
from scmodelforge.finetuning.perturbation.head import KIND
from scmodelforge.finetuning.perturbation.screen import tokens_of
from scmodelforge.models.fine_tuned_heads import Seen

__all__ = ["Trained", "trained"]

#: Changes of so many values at a time.
_VALUES = 2**24


@dataclass(frozen=True)
class Trained:
    """A model of perturbations and what it was trained on.

    Attributes
    ----------
    model
        The model.
    vocab
        Its tokens.
    facts
        What its folder says of perturbations.
    """

    model: Any
    vocab: GeneVocab
    facts: dict[str, Any]

    @property
    def tokens(self) -> np.ndarray:
        """Tokens of the genes that it predicts, shape (G,)."""
        found: np.ndarray = self.model.head.output_tokens.cpu().numpy()
        return found

    def part(self, name: str) -> tuple[Group, ...]:
        """Return the perturbations of a part of its split: ``train``, ``validation`` or ``test``."""
        return tuple(Group(*pair) for pair in self.facts["split"][name])

    def groups(self, names: Sequence[str], covariates: Sequence[str]) -> tuple[Group, ...]:
        """Return perturbations by name in each of some covariates.

        Raises
        ------
        DataError
            If a gene has no token.
        """
        control = self.facts["control"]
        known = {name for part in ("train", "validation", "test") for _, name in self.facts["split"][part]}
        conditions = Conditions.of({*names, *known, control}, control=control)
        found = tuple(sorted({Group(covariate, conditions.name(name)) for name in names for covariate in covariates}))
        found = tuple(group for group in found if group.targets)
        unknown = tokens_of(found, self.vocab)[1]
        if unknown:
            msg = (
                f"{len(unknown)} perturbed gene(s) are not in the model's vocabulary: {listed(unknown, 10)}; leave "
                "them out of the conditions."
            )
            raise DataError(msg)
        if not found:
            msg = "no perturbation is asked for; name some, such as KLF1,CEBPA+SPI1."
            raise ConfigError(msg)
        return found

    def change(self, embeddings: np.ndarray, group: Group, *, dose: float | None = None) -> np.ndarray:
        """Return the changes of some control cells by a perturbation, shape (B, G), float32.

        Parameters
        ----------
        embeddings
            What the backbone gives for the cells, shape (B, H).
        group
            The perturbation, with the cells' covariate.
        dose
            Its dose; ``None`` is the mean over the doses of its cells in the run's data, as its measured mean is one
            over them, and for others the mean of training.
        """
        if dose is None and (levels := self._doses.get(group)):
            each = (share * self.changes(embeddings, group.covariate, [group], dose=own)[:, 0] for own, share in levels)
            return np.asarray(sum(each), dtype=np.float32)
        return self.changes(embeddings, group.covariate, [group], dose=dose)[:, 0]

    @cached_property
    def _doses(self) -> dict[Group, list[list[float]]]:
        return {Group(covariate, name): levels for covariate, name, levels in self.facts.get("doses", [])}

    def changes(
        self, embeddings: np.ndarray, covariate: str, groups: Sequence[Group], *, dose: float | None = None
    ) -> np.ndarray:
        """Return the changes of some control cells by perturbations, shape (B, P, G), float32.

        Parameters
        ----------
        embeddings
            What the backbone gives for the cells, shape (B, H).
        covariate
            Theirs.
        groups
            The perturbations.
        dose
            Dose of all; ``None`` is the mean of training.
        """
        sets = tokens_of(groups, self.vocab)[0]
        mean, spread = self.facts["dose_scale"]
        level = 0.0 if dose is None else (float(np.log1p(dose)) - mean) / spread
        model = self.model
        device = next(model.parameters()).device
        found = np.empty((len(embeddings), len(groups), len(self.tokens)), dtype=np.float32)
        step = max(1, _VALUES // max(found[:, :1].size, 1))
        cells = torch.from_numpy(np.ascontiguousarray(embeddings)).to(device)
        places = torch.full((len(cells),), self.facts["covariates"].index(covariate), device=device)
        with evaluating(model), torch.no_grad():
            for start in range(0, len(groups), step):
                asked = sets[start : start + step]
                tokens = torch.full((len(asked), max(map(len, asked))), -1, device=device)
                for row, own in zip(tokens, asked, strict=True):
                    row[: len(own)] = torch.tensor(own)
                batch = {
                    "perturbed": tokens.expand(len(cells), -1, -1),
                    "covariate": places,
                    "dose": torch.full((len(cells), len(asked)), level, device=device),
                }
                changes = model.head(Seen(cells, None, batch, model.backbone))
                found[:, start : start + len(asked)] = changes.float().cpu().numpy()
        return found


def trained(model: Any, model_config: Any, vocab: GeneVocab, labels: dict[str, Any], *, origin: str = "") -> Trained:
    """Return a model as one of perturbations.

    Raises
    ------
    ConfigError
        If it is none.
    """
    kind = getattr(getattr(model_config, "head", None), "kind", None)
    if kind != KIND or "perturbations" not in labels:
        msg = (
            f"{origin or 'the model'} has not learned perturbations ({model_config.architecture}); give one that was "
            "fine-tuned with task 'perturbation_prediction'."
        )
        raise ConfigError(msg)
    return Trained(model, vocab, labels["perturbations"])
