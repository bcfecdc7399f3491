"""Sizes and counts as users write them."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from controller.resources.reading.fields import parse_count, parse_size

FACTORS = {"": 1, "k": 1000, "M": 1000**2, "G": 1000**3, "Ki": 1024, "Mi": 1024**2, "Gi": 1024**3}


@given(st.integers(0, 999_999_999), st.sampled_from(list(FACTORS)))
def test_size_is_its_number_times_its_unit(number: int, unit: str) -> None:
    assert parse_size(f"{number}{unit}") == number * FACTORS[unit]
    assert parse_size(f"{number}{unit}") < 2**60


@pytest.mark.parametrize(
    "text", ["", "-1", "+1", "1.5", "1e3", "64KB", "64ki", "1T", " 1", "1 ", "1\n", "\u0661", "1000000000Gi", "1" * 13]
)
def test_size_that_is_none_is_refused(text: str) -> None:
    assert parse_size(text) is None


@pytest.mark.parametrize(("value", "size"), [(0, 0), (65536, 65536), (2.0, 2), ("999999999999", 999_999_999_999)])
def test_size_may_be_a_number_of_yaml(value: str | float, size: int) -> None:
    assert parse_size(value) == size


@given(st.text(max_size=12))
def test_count_is_a_whole_number_within_bounds_or_none(text: str) -> None:
    found = parse_count(text, 100)

    assert found == (int(text) if text.isascii() and text.isdigit() and len(text) < 10 and 1 <= int(text) <= 100 else None)
