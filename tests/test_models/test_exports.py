"""Where the public names of models are found."""

from __future__ import annotations

import scmodelforge.models
import scmodelforge.models.components


def test_models_are_exported():
    documented = {
        "ModelOutput",
        "ScModelForgeModel",
        "TransformerEncoder",
        "GenePoolingModel",
        "register_model",
        "get_model",
        "list_models",
        "init_weights",
        "count_parameters",
    }
    assert documented <= set(scmodelforge.models.__all__)


def test_components_are_exported():
    documented = {
        "GeneExpressionEmbedding",
        "MaskedGenePredictionHead",
        "BinPredictionHead",
        "ExpressionPredictionHead",
        "cls_pool",
        "mean_pool",
        "generate_causal_mask",
    }
    assert documented <= set(scmodelforge.models.components.__all__)


def test_every_exported_name_exists():
    for package in (scmodelforge.models, scmodelforge.models.components):
        assert all(hasattr(package, name) for name in package.__all__)


def test_documented_modules_hold_their_names():
    from scmodelforge.models._utils import count_parameters, init_weights
    from scmodelforge.models.components.attention import generate_causal_mask
    from scmodelforge.models.components.embeddings import GeneExpressionEmbedding
    from scmodelforge.models.components.heads import BinPredictionHead, ExpressionPredictionHead
    from scmodelforge.models.components.pooling import mean_pool
    from scmodelforge.models.protocol import ModelOutput
    from scmodelforge.models.registry import register_model

    assert init_weights is scmodelforge.models.init_weights
    assert count_parameters is scmodelforge.models.count_parameters
    assert ModelOutput is scmodelforge.models.ModelOutput
    assert register_model is scmodelforge.models.register_model
    components = scmodelforge.models.components
    for name in (generate_causal_mask, GeneExpressionEmbedding, BinPredictionHead, ExpressionPredictionHead, mean_pool):
        assert getattr(components, name.__name__) is name
