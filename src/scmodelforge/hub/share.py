"""Models of ours on the Hugging Face hub, through its own mixin."""

from __future__ import annotations

# Contract: ``class SharedModel(huggingface_hub.ModelHubMixin)`` wraps a Bundle (attribute ``bundle``, and ``card``):
# ``save_pretrained(folder)``, ``SharedModel.from_pretrained(address, revision=..., token=..., trust_plugins=False)``,
# ``push_to_hub("owner/name", token=..., private=...)``. What is pushed is loaded back from the hub and must give the
# same embeddings of some cells before the push counts. ``Bundle`` itself knows nothing of the hub.
