"""Settings of a model inside another one's: each fact has one home, and mistakes are told with their place."""

from __future__ import annotations

import json

import pytest
from pydantic import ValidationError

from scmodelforge._errors import ConfigError
from scmodelforge.config.load import config_schema, dump_config, load_config
from scmodelforge.config.schema import ModelConfig, RunConfig
from scmodelforge.models.fine_tuned_config import FineTunedConfig
from scmodelforge.models.scgpt_config import ScGPTConfig

ENCODER = {"architecture": "transformer_encoder", "hidden_dim": 32, "num_heads": 4}


def load(tmp_path, model: dict, overrides=(), **sections) -> RunConfig:
    values = {"data": {"paths": ["cells.h5ad"], "label_column": "cell_type"}, "model": model, **sections}
    path = tmp_path / "run.yaml"
    path.write_text(json.dumps({"tokenizer": {"max_genes": 64}, **values}))
    return load_config(path, overrides)


class TestOneHome:
    def test_the_backbones_class_has_its_own_settings_and_defaults(self):
        config = FineTunedConfig(backbone={"architecture": "scgpt", "gepc_weight": 0.0})
        assert isinstance(config.backbone, ScGPTConfig)
        assert config.dropout == config.backbone.dropout == 0.2

    def test_what_is_common_may_stand_above(self):
        config = FineTunedConfig.model_validate({"hidden_dim": 32, "num_heads": 4, "backbone": {"num_layers": 3}})
        assert (config.backbone.hidden_dim, config.backbone.num_heads) == (32, 4)
        assert (config.hidden_dim, config.num_layers) == (32, 3)

    def test_two_values_are_refused(self):
        with pytest.raises(ValidationError, match=r"hidden_dim is 16 and backbone.hidden_dim is 32, which are one"):
            FineTunedConfig.model_validate({"hidden_dim": 16, "backbone": ENCODER})
        with pytest.raises(ValidationError, match=r"vocab_size is 9 and backbone.vocab_size is 8, which are one"):
            FineTunedConfig.model_validate({"vocab_size": 9, "backbone": {**ENCODER, "vocab_size": 8}})

    def test_the_vocabulary_is_that_of_both(self):
        config = FineTunedConfig(backbone={**ENCODER, "vocab_size": 9})
        assert (config.vocab_size, config.backbone.vocab_size) == (9, None)
        assert config.model_copy(update={"vocab_size": 12}).backbone_settings().vocab_size == 12

    def test_it_comes_back_from_json(self):
        config = FineTunedConfig(backbone=ENCODER, head={"pooling": "first"}, num_cell_types=4, vocab_size=9)
        written = json.loads(json.dumps(config.model_dump(mode="json")))
        assert "hidden_dim" not in written
        assert not {"vocab_size", "mask_ratio"} & set(written["backbone"])
        assert FineTunedConfig.model_validate(written) == config

    def test_what_is_assigned_above_reaches_the_backbone_of_this_one_only(self):
        config = FineTunedConfig(backbone=ENCODER)
        other = config.model_copy()
        config.hidden_dim = 64
        config.mask_ratio = 0.3
        assert (config.hidden_dim, config.backbone.hidden_dim, other.backbone.hidden_dim) == (64, 64, 32)
        assert config.model_copy(update={"num_layers": 5}).backbone_settings().num_layers == 5

    def test_another_backbone_may_be_assigned(self):
        config = FineTunedConfig(backbone=ENCODER)
        config.backbone = {"architecture": "scgpt", "hidden_dim": 8}
        assert isinstance(config.backbone, ScGPTConfig)
        assert config.hidden_dim == 8

    def test_plain_settings_become_those_of_the_architecture(self):
        config = FineTunedConfig(backbone=ModelConfig(architecture="scgpt", hidden_dim=8))
        assert isinstance(config.backbone, ScGPTConfig)
        assert config.backbone.dropout == 0.2


class TestFiles:
    def test_a_file_is_read_and_written(self, tmp_path):
        config = load(tmp_path, {"architecture": "fine_tuned", "backbone": ENCODER, "head": {"hidden_layers": 2}})
        assert (config.model.backbone.hidden_dim, config.model.head.hidden_layers) == (32, 2)
        (tmp_path / "again.yaml").write_text(dump_config(config))
        assert "mask_ratio: 0.15" in dump_config(config)  # of the tokenizer
        assert load_config(tmp_path / "again.yaml") == config

    def test_settings_are_changed_by_their_path(self, tmp_path):
        model = {"architecture": "fine_tuned", "backbone": ENCODER}
        config = load(tmp_path, model, ["model.backbone.num_layers=7", "model.head.activation=relu"])
        assert (config.model.num_layers, config.model.head.activation) == (7, "relu")

    @pytest.mark.parametrize(
        ("model", "words"),
        [
            ({"backbone": {"hidden_dims": 8}}, "unknown setting 'model.backbone.hidden_dims'. Did you mean 'hidden_"),
            ({"backbone": {"gepc_weight": 1.0}}, "'gepc_weight' is a setting of architecture 'scgpt'"),
            ({"backbone": {"hidden_dim": "8"}}, "model.backbone.hidden_dim is 8; it must be a whole number"),
            ({"backbone": {"architecture": "scgtp"}}, "model.backbone.architecture: unknown model 'scgtp'. Did you"),
            ({"backbone": {"architecture": "fine_tuned"}}, "is no model to be fine-tuned but one around such"),
            ({"backbone": {"mask_ratio": 0.3}}, "backbone.mask_ratio is not read; set tokenizer.masking.mask_ratio"),
            ({"backbone": 7}, "model.backbone is 7; it must be a section"),
            ({"backbone": ENCODER, "hidden_dim": 8}, "hidden_dim is 8 and backbone.hidden_dim is 32, which are one"),
            ({"head": {"pooling": "last"}}, "model.head.pooling is last; it must be 'embedding' or 'first'"),
            ({"head": {"kind": "genes"}}, "model.head.kind: unknown head genes. Registered:"),
            ({"head": {"activation": "tan"}}, "Did you mean 'tanh'"),
            ({"backbone": {"hidden_dim": 30, "num_heads": 4}}, "model.hidden_dim (30) is not a multiple of"),
            ({"backbone": {"max_seq_len": 32}}, "tokenizer.max_genes (64) exceeds model.max_seq_len (32)"),
            ({"pretraining_task": "masked_gene_prediction"}, "it can be trained on: cell_type_annotation"),
        ],
    )
    def test_mistakes_are_told_with_their_place(self, tmp_path, model, words):
        with pytest.raises(ConfigError) as caught:
            load(tmp_path, {"architecture": "fine_tuned", **model})
        assert words in str(caught.value).replace("'8'", "8").replace("'last'", "last").replace("'genes'", "genes")
        assert len(str(caught.value).splitlines()) == 1

    def test_without_a_column_of_labels_it_is_refused(self, tmp_path):
        with pytest.raises(
            ConfigError, match=r"data.label_column is not set, .*\(annotation, .*\); name the obs column"
        ):
            load(tmp_path, {"architecture": "fine_tuned"}, data={"paths": ["cells.h5ad"]})

    @pytest.mark.parametrize(
        ("tokenizer", "backbone", "words"),
        [
            ({"strategy": "rank_value"}, "transcriptformer", None),
            (
                {"strategy": "continuous_projection", "embedding": "attention_bias", "value_transform": "counts"},
                "gene_pooling",
                "architecture 'gene_pooling' has no attention that takes a bias",
            ),
            ({"strategy": "rank_value"}, "scvi", "architecture 'scvi' takes counts"),
            (
                {"strategy": "continuous_projection", "embedding": "linear"},
                "transcriptformer",
                "reads values in one way only",
            ),
        ],
    )
    def test_what_the_tokenizer_gives_is_held_against_the_backbone(self, tmp_path, tokenizer, backbone, words):
        model = {"architecture": "fine_tuned", "backbone": {"architecture": backbone}}
        if words is None:
            load(tmp_path, model, tokenizer={"max_genes": 64, **tokenizer})
            return
        with pytest.raises(ConfigError, match=words):
            load(tmp_path, model, tokenizer={"max_genes": 64, **tokenizer})

    def test_bins_of_the_tokenizer_are_those_of_the_backbone(self, tmp_path):
        model = {"architecture": "fine_tuned", "backbone": {"architecture": "autoregressive_transformer"}}
        config = load(tmp_path, model, tokenizer={"strategy": "binned_expression", "n_bins": 7, "max_genes": 64})
        assert config.model.backbone.n_bins == 7

    def test_editors_are_told_the_settings_of_each_backbone(self):
        definitions = config_schema()["$defs"]
        forms = definitions["FineTunedConfig"]["properties"]["backbone"]["anyOf"]
        named = {form["allOf"][1]["properties"]["architecture"]["const"] for form in forms}
        assert {"transformer_encoder", "scgpt"} <= named
        assert "fine_tuned" not in named
