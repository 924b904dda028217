"""The collector's JavaScript conversions, compared with those of Node.js 20."""

import math

import pytest
from conftest import with_each
from hypothesis import given
from hypothesis import strategies as st

from umami.collector.javascript import cut, decode_uri, json_text, length, parse_date, to_number


@with_each(
    ("value", "number"),
    [
        (None, 0),
        (True, 1),
        (False, 0),
        (5, 5),
        (-1.5, -1.5),
        ("", 0),
        (" 7 ", 7),
        ("1.7e9", 1.7e9),
        ("0x10", 16),
        ("0b11", 3),
        ("-5", -5),
        (".5", 0.5),
        ("5.", 5),
        ("Infinity", math.inf),
        ([], 0),
        ([5], 5),
        (["5"], 5),
        ([[]], 0),
        (10**400, math.inf),
    ],
)
def test_numbers_are_read_as_javascript_does(value, number):
    assert to_number(value) == number


@with_each(
    ("number", "text"),
    [
        (1, "1"),
        (1.0, "1"),
        (-0.0, "0"),
        (-5.5, "-5.5"),
        (120, "120"),
        (1e-6, "0.000001"),
        (1.5e-6, "0.0000015"),
        (1e-7, "1e-7"),
        (-9.999929201e-9, "-9.999929201e-9"),
        (1e20, "100000000000000000000"),
        (1e21, "1e+21"),
        (2**70, "1.1805916207174113e+21"),
        (10**400, "null"),
    ],
)
def test_numbers_are_written_as_javascript_does(number, text):
    assert json_text([number, {"a": None}, "é\n", True]) == f'[{text},{{"a":null}},"é\\n",true]'


@with_each("value", ["x", "1_000", "1 2", "infinity", "nan", "-0x10", "٣", [1, 2], {}, [{}], ["x"], [True]])
def test_what_is_no_number_is_nan(value):
    assert math.isnan(to_number(value))


@with_each(
    ("text", "date"),
    [
        ("2023-02-28T23:59:59", "2023-02-28T23:59:59+00:00"),
        ("2023-02-30T00:00:00", "2023-03-02T00:00:00+00:00"),
        ("2023-04-31T00:00:00.000Z", "2023-05-01T00:00:00+00:00"),
        ("2023-01-01T24:00:00", "2023-01-02T00:00:00+00:00"),
        ("2023-01-01T00:00:00.123+23:59", "2022-12-31T00:01:00.123000+00:00"),
    ],
)
def test_dates_may_run_over(text, date):
    assert parse_date(text).isoformat() == date


@with_each(
    "text",
    [
        "2023-02-32T00:00:00",
        "2023-13-01T00:00:00",
        "2023-00-01T00:00:00",
        "2023-01-00T00:00:00",
        "2023-01-01T24:00:01",
        "2023-01-01T25:00:00",
        "2023-01-01T00:60:00",
        "2023-01-01T00:00:60",
        "2023-01-01T00:00:00.123+24:00",
        "2023-01-01T24:00:00.001",
        "2023-01-01T00:00:00Z",
        "2023-01-01T00:00:00.000-01:00",
        "2023-01-01",
    ],
)
def test_some_dates_there_are_not(text):
    assert parse_date(text) is None


@with_each(
    ("text", "decoded"),
    [
        ("/%C3%A9%20b", "/é b"),
        ("/a%2Fb%3F", "/a%2Fb%3F"),
        ("/%zz%20", "/%zz%20"),
        ("/%E0%A4%A%20", "/%E0%A4%A%20"),
        ("/%FF", "/%FF"),
    ],
)
def test_uris_are_decoded_but_for_what_is_reserved(text, decoded):
    assert decode_uri(text) == decoded


@pytest.mark.slow
@given(text=st.text(), units=st.integers(0, 20))
def test_a_cut_text_fits_and_is_a_start(text, units):
    short = cut(text, units)
    assert length(short) == min(length(text), units)
    assert text.startswith(short.removesuffix("\ufffd"))
