"""What addresses of models mean."""

from __future__ import annotations

from pathlib import Path

import pytest

from scmodelforge._errors import ConfigError
from scmodelforge.hub.addresses import HubRepository, LocalFolder, NamedModel, parse_address


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("runs/lung/model", LocalFolder(Path("runs/lung/model"))),
        (Path("hf:"), LocalFolder(Path("hf:"))),
        ("~/model", LocalFolder(Path.home() / "model")),
        ("hf://me/toy", HubRepository("me/toy")),
        ("HF://Me/Toy", HubRepository("Me/Toy")),
        ("hf://me/toy@v1.0", HubRepository("me/toy", "v1.0")),
        ("hf://me/toy/small/", HubRepository("me/toy", None, "small")),
        ("hf://me/toy@0f3a/a/b", HubRepository("me/toy", "0f3a", "a/b")),
        ("scModelForge://Geneformer-V2", NamedModel("geneformer-v2")),
        (" scmodelforge://scgpt-human ", NamedModel("scgpt-human")),
    ],
)
def test_every_form(text, expected):
    assert parse_address(text) == expected


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("hf://toy", "hf://owner/name"),
        ("hf://me/toy@", "hf://owner/name"),
        ("hf://me/toy/../../etc", "hf://owner/name"),
        ("hf://", "hf://owner/name"),
        ("scmodelforge://", "models list --pretrained"),
        ("scmodelforge://a/b", "models list --pretrained"),
        ("s3://bucket/model", "unknown scheme 's3://'"),
        ("", "empty address"),
    ],
)
def test_what_is_refused(text, what):
    with pytest.raises(ConfigError, match=what):
        parse_address(text)
