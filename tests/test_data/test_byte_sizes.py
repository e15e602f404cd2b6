from __future__ import annotations

import pytest

from scmodelforge.data._byte_sizes import parse_bytes


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("70", 70),
        (" 8b ", 8),
        ("100MB", 10**8),
        ("20GB", 2 * 10**10),
        ("1.5 GB", 15 * 10**8),
        ("1.5 MiB", 3 << 19),
        ("64mib", 2**26),
        ("1TiB", 2**40),
        (10**9, 10**9),
    ],
)
def test_sizes_have_units(text, number):
    assert parse_bytes(text) == number


@pytest.mark.parametrize("text", ["", "a lot", "GB", "5 iB", "5 EB", "-1 GB", "1e9", "5 G"])
def test_what_is_no_size_is_refused(text):
    with pytest.raises(ValueError, match=rf"^'{text}' is no size; write a number of bytes, or a number with a unit"):
        parse_bytes(text)
