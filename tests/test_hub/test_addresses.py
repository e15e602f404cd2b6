"""What addresses of models mean, and that none leads out of where it should stay."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st

from scmodelforge._errors import ConfigError
from scmodelforge.hub.addresses import HubRepository, LocalFolder, NamedModel, parse_address
from scmodelforge.hub.push import repository_of

#: Pieces of which addresses go wrong.
PIECES = st.sampled_from(
    [
        "/", "//", ".", "..", "...", "@", "%2F", "%2f", "%2E", "%40", "%25", "%00", "%", "\\", "~", " ", "\n", "a", "B",
        "etc", "v1.0", "-", "_", ":", "[", "*", "é", "refs/pr/1", "refs", "feature", ".lock", "{", "hf://", "://",
    ]
)  # fmt: skip
TEXTS = st.lists(PIECES, max_size=8).map("".join)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("runs/lung/model", LocalFolder(Path("runs/lung/model"))),
        (Path("runs/lung/model"), LocalFolder(Path("runs/lung/model"))),
        (Path("hf:"), LocalFolder(Path("hf:"))),
        ("~/model", LocalFolder(Path.home() / "model")),
        ("./~/model", LocalFolder(Path("~/model"))),
        ("hf://me/toy", HubRepository("me/toy")),
        ("HF://Me/Toy", HubRepository("Me/Toy")),
        ("hf://me/toy@v1.0", HubRepository("me/toy", "v1.0")),
        ("hf://me/toy/small/", HubRepository("me/toy", None, "small")),
        ("hf://me/toy@0f3a/a/b", HubRepository("me/toy", "0f3a", "a/b")),
        ("hf://me/toy@feature%2Fnew", HubRepository("me/toy", "feature/new")),
        ("Hf://me/toy@feature%2fnew/small", HubRepository("me/toy", "feature/new", "small")),
        ("hf://me/toy@refs/pr/1/small", HubRepository("me/toy", "refs/pr/1", "small")),
        ("hf://me/toy/a@b", HubRepository("me/toy", None, "a@b")),
        ("scModelForge://Geneformer-V2", NamedModel("geneformer-v2")),
        ("SCMODELFORGE://GENEFORMER-V2", NamedModel("geneformer-v2")),
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
        ("hf://a/b//etc", "'/etc' is no folder in a repository"),
        ("hf://a/b/.", "'.' is no folder in a repository"),
        ("hf://a/b/small/./v2", "is no folder in a repository"),
        ("hf://a/b/small//v2", "is no folder in a repository"),
        ("hf://a/b/..\\..\\etc", "is no folder in a repository"),
        ("hf://a/b@..", "'..' is no name of a branch, tag or commit"),
        ("hf://a/b@..%2F..%2Fetc", "is no name of a branch, tag or commit"),
        ("hf://a/b@%2Fetc", "'/etc' is no name of a branch, tag or commit"),
        ("hf://a/b@refs/pr/..", "is no name of a branch, tag or commit"),
        ("hf://", "hf://owner/name"),
        ("scmodelforge://", "models list --pretrained"),
        ("scmodelforge://a/b", "models list --pretrained"),
        ("scmodelforge://..", "models list --pretrained"),
        ("s3://bucket/model", "unknown scheme 's3://'"),
        ("https://huggingface.co/me/toy/tree/main", "Did you mean hf://me/toy?"),
        ("~nobody-of-this-name/model", "no such home folder"),
        ("", "empty address"),
        ("  ", "empty address"),
    ],
)
def test_what_is_refused(text, what):
    with pytest.raises(ConfigError) as caught:
        parse_address(text)
    assert what in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_place_made_in_python_is_held_to_the_same():
    for folder in ("/etc", "..", "a/../..", "a//b", ".", "a\\b", "a/"):
        with pytest.raises(ConfigError, match="is no folder in a repository"):
            HubRepository("me/toy", None, folder)
    with pytest.raises(ConfigError, match="is no name of a branch"):
        HubRepository("me/toy", "../main")


@given(rest=TEXTS, direct=st.booleans())
@example(rest="//etc", direct=False)
@example(rest="@..%2F..%2Fetc", direct=False)
@example(rest="/..", direct=False)
def test_no_address_leads_out_of_its_snapshot(rest, direct):
    """Neither by the folder, nor by the revision, which is a path in the cache of the hub's client."""
    try:
        place = HubRepository("me/toy", rest, rest) if direct else parse_address(f"hf://me/toy{rest}")
    except ConfigError:
        return
    assert isinstance(place, HubRepository)
    root = "/cache/snapshots/0f3a"
    folder = os.path.normpath(os.path.join(root, place.folder))
    assert os.path.commonpath([root, folder]) == root
    assert folder == root or place.folder  # a folder that is named is none above it, nor the top by another name
    if place.folder:
        assert os.path.join(root, place.folder) == folder
    if place.revision is not None:
        assert os.path.normpath(os.path.join(root, place.revision)) == os.path.join(root, place.revision)


@given(
    text=st.one_of(TEXTS, TEXTS.map(lambda rest: f"hf://me/toy{rest}"), TEXTS.map(lambda it: f"scmodelforge://{it}"))
)
@example(text="~")
@example(text="./~/model")
@example(text=" runs/lung ")
@example(text="hf://me/toy@a%252Fb/100%25")
def test_an_address_means_the_same_when_it_was_written_and_read(text):
    try:
        address = parse_address(text)
    except ConfigError:
        return
    assert parse_address(str(address)) == address


@given(name=st.text(min_size=1))
def test_so_does_any_path_and_any_part_of_a_repository(name):
    assume("\x00" not in name)
    path = LocalFolder(Path(name))
    assume("://" not in str(path))
    assume(str(path).strip())
    assert parse_address(str(path)) == path
    try:
        place = HubRepository("me/toy", name, name)
    except ConfigError:
        return
    assert parse_address(str(place)) == place


@pytest.mark.parametrize("name", ["me/toy", "hf://me/toy", "HF://me/toy", "hF://me/toy/", "me/toy/"])
def test_a_repository_is_meant_with_and_without_the_scheme_in_any_case(name):
    assert repository_of(name) == HubRepository("me/toy")


@pytest.mark.parametrize(
    "name", ["HF://toy", "HF://me/toy@v1", "HF://me/toy/small", "HF://HF://me/toy", "scmodelforge://me", "me//toy", "~"]
)
def test_what_is_none_is_refused(name):
    with pytest.raises(ConfigError, match="owner/name"):
        repository_of(name)
