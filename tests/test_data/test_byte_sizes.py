from __future__ import annotations

import pytest

from scmodelforge.data._byte_sizes import format_bytes, parse_bytes


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


@pytest.mark.parametrize(
    ("size", "text"),
    [
        (0, "0 bytes"),
        (1, "1 byte"),
        (999, "999 bytes"),
        (1000, "1.0 kB"),
        (60_432, "60.4 kB"),
        (999_940, "999.9 kB"),
        (999_960, "1.0 MB"),
        (2_000_000_000, "2.0 GB"),
        (1_234_500_000_000_000, "1,234.5 TB"),
    ],
)
def test_sizes_are_written_in_the_unit_that_fits(size, text):
    assert format_bytes(size) == text
