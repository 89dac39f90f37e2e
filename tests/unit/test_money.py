from decimal import ROUND_UP, Decimal, localcontext

import pytest

from etl.money import parse_int, parse_money, round_to_nanodollars


@pytest.mark.parametrize(
    ("value", "dollars"),
    [
        (0, "0"),
        (-3, "-3"),
        ("-3", "-3"),
        ("+3", "3"),
        ("0.000700", "0.0007"),
        ("1.0e-5", "0.00001"),
        ("1E+3", "1000"),
        (".5", "0.5"),
        ("5.", "5"),
        ("  7.5 ", "7.5"),
        (Decimal("7.4959480000000003"), "7.495948"),
        (Decimal("999999999.999999999"), "999999999.999999999"),
        # half to even, once
        ("0.0000000005", "0"),
        ("0.0000000015", "0.000000002"),
        ("0.0000000025", "0.000000002"),
        ("0.00000000250000000000000000000000000000000000000001", "0.000000003"),
        ("-0.0000000015", "-0.000000002"),
        ("0.00000000149999999999999999999999999999999999999999", "0.000000001"),
        ("1e-999999999", "0"),
        ("0.0000000009", "0.000000001"),
        ("-0.0000000003", "0"),
        ("-0", "0"),
        ("0e999999999", "0"),
    ],
)
def test_amounts_are_rounded_to_nine_decimal_places(value: object, dollars: str) -> None:
    result = parse_money(value)
    assert result == Decimal(dollars)
    assert result is not None
    assert result.as_tuple().exponent == -9
    assert not (result == 0 and result.is_signed())


@pytest.mark.parametrize(
    "value",
    [
        None,
        True,
        1.5,
        [],
        "",
        " ",
        "\t1",
        "1\n",
        "1_000",
        "1,5",
        "0x10",
        "NaN",
        "Infinity",
        "\u0661",
        "\uff11",
        "1 2",
        "--1",
        ".",
        "1e",
        "$1",
        Decimal("NaN"),
        Decimal("sNaN"),
        Decimal("-Infinity"),
        "1e99999999999999999999",
        10**9,
        "1000000000",
        "-1000000000",
        "999999999.9999999995",
        "1e999999999",
    ],
)
def test_invalid_amounts_are_none(value: object) -> None:
    assert parse_money(value) is None


@pytest.mark.parametrize(
    ("value", "number"),
    [
        (1899, 1899),
        ("1899", 1899),
        (Decimal("1899.0"), 1899),
        ("1.899e3", 1899),
        (0, 0),
        ("-0.0", 0),
        (-7, -7),
        (2**63 - 1, 2**63 - 1),
        (-(2**63), -(2**63)),
    ],
)
def test_integers_are_accepted_in_every_notation(value: object, number: int) -> None:
    assert parse_int(value) == number


@pytest.mark.parametrize(
    "value", [None, False, 1.0, "1.5", Decimal("0.1"), 2**63, -(2**63) - 1, "1e999999999", "1e-999999999", "x"]
)
def test_invalid_integers_are_none(value: object) -> None:
    assert parse_int(value) is None


def test_the_decimal_context_of_the_thread_has_no_effect() -> None:
    with localcontext() as context:
        context.prec, context.rounding = 3, ROUND_UP
        assert parse_money("123456.0000000014") == Decimal("123456.000000001")
        assert round_to_nanodollars([Decimal("123456.0000000014"), 1234]) == (123_456_000_000_001, 1_234_000_000_000)
        assert parse_int("123456") == 123456


def test_a_million_digits_are_parsed_quickly() -> None:
    digits = "9" * 1_000_000
    for text in (digits, "0." + digits, digits + "x", "1." + digits + "e-5", "1." + "0" * 1_000_000):
        parse_money(text)
        parse_int(text)
    assert parse_money("0." + digits) == Decimal(1)
    assert parse_int("5." + "0" * 1_000_000) == 5
