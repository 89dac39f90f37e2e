"""The mistakes that are put into the program."""

import textwrap

from tests.mutants.mutations import mutations


def changes(source: str) -> list[str]:
    return [one.change for one in mutations("x.py", textwrap.dedent(source))]


def test_comparisons_numbers_and_conditions_are_changed() -> None:
    assert changes("def f(a):\n    if a < 3:\n        g(a)") == [
        "a < 3 → (not (a < 3))",
        "< → <=",
        "< → >",
        "3 → (2)",
        "3 → 4",
        "g(a) → pass",
    ]


def test_calls_lose_a_keyword_or_get_their_arguments_swapped() -> None:
    assert changes("x = f(a, b, c=d, e=g)") == [
        "f(a, b, c=d, e=g) → f(b, a, c=d, e=g)",
        "c=d, → nothing",
        "e=g → nothing",
    ]


def test_conditions_lose_a_part_or_get_another_operator() -> None:
    assert changes("x = a and b") == ["a and b → ((a) or (b))", "a and b → ((a))", "a and b → ((b))"]


def test_texts_of_errors_and_logs_docstrings_types_and_asserts_are_left_alone() -> None:
    source = """
        import b

        def f(a: int | None = None) -> "int | None":
            \"\"\"Return 1.\"\"\"
            log.info("%d", 1 + 1)
            assert a != 1
    """
    assert changes(source) == []


def test_sql_is_changed_where_it_names_a_table() -> None:
    assert changes('X = """\nselect max(a) from internal.t\n"""') == ["max( → min("]


def test_a_mutation_names_the_outermost_function_and_its_line() -> None:
    source = "class C:\n    def f(self):\n        def g():\n            return 1\n        return g\n"
    found = mutations("x.py", source)
    assert {(one.function, one.line) for one in found} == {("C.f", 4), ("C.f", 5)}
    assert found[-1].apply(source.encode()).decode() == source.replace("return g", "return None")
