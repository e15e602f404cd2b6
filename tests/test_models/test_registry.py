"""Models by name, settings completed for the model that takes them."""

from __future__ import annotations

import pytest
from pydantic import Field
from torch import nn

from scmodelforge._registry import MODELS
from scmodelforge.config.schema import ModelConfig
from scmodelforge.models import (
    GenePoolingModel,
    TransformerConfig,
    TransformerEncoder,
    get_model,
    list_models,
    register_model,
)


@pytest.fixture
def registered():
    """Register models for one test; called with a name, returns the decorator."""
    names: list[str] = []

    def register(name: str):
        names.append(name)
        return register_model(name)

    list_models()
    yield register
    for name in names:
        MODELS._parts.pop(name, None)


class TestListModels:
    def test_built_in_models_are_there_in_order(self):
        names = list_models()
        assert {"gene_pooling", "transformer_encoder"} <= set(names)
        assert names == sorted(names)


class TestGetModel:
    def test_it_makes_the_model_of_the_name(self, tiny_config):
        assert isinstance(get_model("transformer_encoder", tiny_config), TransformerEncoder)

    def test_the_architecture_may_be_changed_afterwards(self, tiny_config):
        model = get_model(tiny_config.architecture, tiny_config)
        assert type(model) is TransformerEncoder
        tiny_config.architecture = "gene_pooling"
        assert type(get_model(tiny_config.architecture, tiny_config)) is GenePoolingModel

    def test_an_unknown_name_gets_a_suggestion_and_the_list(self, tiny_config):
        with pytest.raises(ValueError, match=r"Did you mean 'transformer_encoder'\?.*gene_pooling"):
            get_model("transformer_encodr", tiny_config)

    def test_the_vocabulary_size_must_be_set_for_every_model(self, registered):
        @registered("careless")
        class Careless(nn.Module):
            @classmethod
            def from_config(cls, config):
                return cls()

        with pytest.raises(ValueError, match=r"ModelConfig.vocab_size must be set"):
            get_model("careless", ModelConfig())

    def test_a_models_own_settings_are_taken(self, tiny_config):
        config = TransformerConfig(**tiny_config.model_dump(), attention_dropout=0.3)
        assert get_model("transformer_encoder", config).encoder.layers[0].attention.dropout == 0.3


class TestOwnSettings:
    def test_plain_settings_are_completed(self, registered, tiny_config):
        class WideConfig(ModelConfig):
            width: int = 7

        @registered("wide")
        class Wide(nn.Module):
            config_class = WideConfig

            @classmethod
            def from_config(cls, config):
                model = cls()
                model.width, model.hidden_dim = config.width, config.hidden_dim
                return model

        model = get_model("wide", tiny_config)
        assert (model.width, model.hidden_dim) == (7, 16)
        defaults = TransformerConfig(vocab_size=50, hidden_dim=24)
        assert get_model("wide", defaults).hidden_dim == 24

    def test_a_setting_of_another_model_is_refused(self, registered, tiny_config):
        class OtherConfig(ModelConfig):
            pass

        @registered("other")
        class Other(nn.Module):
            config_class = OtherConfig

        config = TransformerConfig(vocab_size=50, attention_dropout=0.3)
        with pytest.raises(ValueError, match=r"model 'other' has no setting 'model.attention_dropout' \(it is 0.3\)"):
            get_model("other", config)

    def test_bounds_of_the_model_hold(self, registered, tiny_config):
        class ShortConfig(ModelConfig):
            max_seq_len: int = Field(8, le=16)

        @registered("short")
        class Short(nn.Module):
            config_class = ShortConfig

        with pytest.raises(ValueError, match=r"settings do not fit model 'short': model.max_seq_len: .*16"):
            get_model("short", tiny_config)


class TestRegisterModel:
    def test_a_users_model_is_listed_and_made(self, registered, tiny_config):
        @registered("my_custom_model")
        class MyCustomModel(nn.Module):
            def __init__(self, vocab_size, hidden_dim):
                super().__init__()
                self.embedding = nn.Embedding(vocab_size, hidden_dim)

            @classmethod
            def from_config(cls, config):
                return cls(vocab_size=config.vocab_size, hidden_dim=config.hidden_dim)

        assert "my_custom_model" in list_models()
        model = get_model("my_custom_model", tiny_config)
        assert type(model) is MyCustomModel
        assert model.embedding.weight.shape == (50, 16)

    def test_a_name_can_be_taken_once(self):
        with pytest.raises(ValueError, match="'transformer_encoder' is already registered"):
            register_model("transformer_encoder")(nn.Linear)
        assert type(get_model("gene_pooling", ModelConfig(vocab_size=9, hidden_dim=8))) is GenePoolingModel
