from __future__ import annotations

import numpy as np
import pytest
import torch

from scmodelforge.constants import IGNORE_INDEX
from scmodelforge.objectives.counted import Counted

from .tokens import make_tokens, masked_gene

LABELS = np.full(200, IGNORE_INDEX, dtype=np.int32)
LABELS[[100, 102]] = 4, 0


def counted(**terms: str) -> Counted:
    labels = {"cell_types": LABELS} if "cell_types" in terms.values() else {}
    return Counted(masked_gene(), terms, labels)


def test_terms_are_counted_by_what_they_are_means_over():
    tokens = make_tokens([30, 20, 10])
    batch = counted(mvc="targets", kl="cells", annotation="cell_types")(tokens)
    hidden = int((batch["labels"] != IGNORE_INDEX).sum())
    assert hidden > 0
    assert batch["num_targets"] == {"masked_gene": hidden, "mvc": hidden, "kl": 3, "annotation": 2}


def test_labels_follow_the_cells():
    tokens = make_tokens([30, 20, 10])
    batch = counted(annotation="cell_types")(tokens.select(np.array([2, 1])))
    assert torch.equal(batch["cell_types"], torch.tensor([0, IGNORE_INDEX]))


def test_the_batch_is_otherwise_the_objectives():
    tokens = make_tokens([30, 20, 10])
    batch, bare = counted(annotation="cell_types")(tokens), masked_gene()(tokens)
    assert set(batch) - set(bare) == {"cell_types"}
    assert all(torch.equal(batch[key], bare[key]) for key in bare if isinstance(bare[key], torch.Tensor))


def test_no_cells_have_no_targets():
    batch = counted(kl="cells", annotation="cell_types", mvc="targets")(make_tokens([]))
    assert set(batch["num_targets"].values()) == {0}
    assert batch["cell_types"].shape == (0,)


def test_terms_of_other_things_are_a_mistake_of_the_model():
    with pytest.raises(AssertionError, match="mean over"):
        counted(loss="genes")
