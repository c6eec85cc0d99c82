"""Which range of values an image's bits become 8 by."""

import numpy as np
import pytest

from smalti.data.value_range import ValueRange, ValueSample, measure_range, to_8_bit

RNG = np.random.default_rng(0)
GREY = RNG.integers(0, 256, (1, 120, 130), dtype=np.uint8)
GREY[0, 0, :2] = 0, 255


def measured(*images):
    return measure_range([ValueSample.of(image) for image in images])


def with_outlier(image, value):
    changed = image.copy()
    changed[0, 5, 5] = value
    return changed


@pytest.mark.parametrize(("values", "low", "high"), [
    (GREY.astype(np.uint16) * 16, 0, 4080),
    (GREY.astype(np.uint16) * 12, 0, 3060),
    (GREY.astype(np.uint16) * 257, 0, 65535),
    (GREY.astype(np.uint16) // 4 * 257, 0, 65535),  # made from a dark 8-bit image
    (GREY.astype(np.uint16) * 200, 0, 65535),  # in the upper half of the type
    (GREY.astype(np.uint16), 0, 255),
    (np.full((1, 9, 9), 60000, np.uint16), 0, 65535),
    (np.zeros((1, 9, 9), np.uint16), 0, 65535),
    (GREY.astype(np.float32) / 255, 0, 1),
    (GREY.astype(np.float32), 0, 255),
    (GREY.astype(np.float32) / 255 * 0.25, 0, 0.25),  # reflectance
    (GREY.astype(np.float64) * 20 - 100, -100, 5000),  # heights
    (GREY.astype(np.int16) * 20 - 100, -100, 5000),
    (GREY.astype(np.int32) * 1000, 0, 255000),
    (GREY.astype(np.uint32) * 2**24, 0, 2**32 - 1),
    (GREY.astype(np.uint16) * 8 + 28000, 28000, 30040),  # temperatures
    (with_outlier(GREY.astype(np.uint16) * 16, 65535), 0, 4080),  # a hot pixel
    (with_outlier(GREY.astype(np.uint16) * 8 + 28000, 0), 28000, 30040),  # a dead one
    (with_outlier(GREY.astype(np.float32) / 255, np.nan), 0, 1),
    (np.full((1, 3, 3), np.nan, np.float32), 0, 1),
    (np.full((1, 9, 9), -3, np.int16), -3, 0),
])  # fmt: skip
def test_measured_ranges(values, low, high):
    found = measured(values)
    assert (found.low, found.high) == (pytest.approx(low), pytest.approx(high))


def test_images_of_a_set_share_one_range():
    dark = GREY.astype(np.uint16) * 2
    assert measured(dark, dark * 8) == ValueRange(0, 4080)
    assert measured(dark) == ValueRange(0, 510)


@pytest.mark.parametrize("values", [
    np.arange(65536, dtype=np.uint16), np.arange(65536, dtype=np.int32), np.arange(65536, dtype=np.float64),
])  # fmt: skip
def test_the_full_range_is_divided_by_257(values):
    whole = np.arange(65536)
    assert np.array_equal(ValueRange(0, 65535).to_8_bit(values), (whole + 128) // 257)


@pytest.mark.parametrize(("factor", "dtype"), [(16, np.uint16), (12, np.uint16), (1 / 255, np.float32), (3, np.int32)])
def test_scaled_8_bit_values_come_back_exactly(factor, dtype):
    values = (GREY * np.float64(factor)).astype(dtype)
    assert np.array_equal(to_8_bit(values, None), GREY)


def test_8_bit_values_are_not_touched():
    assert to_8_bit(GREY, ValueRange(0, 10)) is GREY


def test_what_lies_outside_is_clipped_and_what_is_no_number_becomes_0():
    values = np.array([-5, 0, 50, 100, 1e30, np.nan, np.inf, -np.inf], np.float32)
    assert ValueRange(0, 100).to_8_bit(values).tolist() == [0, 0, 128, 255, 255, 0, 0, 0]
    assert ValueSample.of(values.reshape(1, 2, 4)).non_finite == 3


def test_pixels_without_data_do_not_count():
    values = np.where(GREY > 200, -9999, GREY * 10.0)
    sample = ValueSample.of(values, GREY[0] <= 200)
    assert measure_range([sample]) == ValueRange(0, 2000)


@pytest.mark.parametrize(("low", "high"), [(1, 1), (2, 1), (0, np.inf), (np.nan, 1)])
def test_ranges_that_are_none(low, high):
    with pytest.raises(ValueError, match="two finite numbers, the lower one first"):
        ValueRange(low, high)
