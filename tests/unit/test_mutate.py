"""Which mutants there are of a piece of source."""

from __future__ import annotations

import ast

from checks.mutate import mutants_of

SOURCE = '''
"""A docstring with 1 number."""
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    import this

LIMIT: Final[int] = 3
__slots__ = ("a",)


def is_small(number: int = 7) -> bool:
    """Another, 2."""
    if number < LIMIT and not number:
        log(number)
        number += 1
        return True
    return number is None


class Thing:
    def __repr__(self) -> str:
        return str(1 + 1)
'''


def test_each_mutant_differs_in_one_place() -> None:
    found = {(mutant.line, mutant.what) for mutant in mutants_of(SOURCE, "thing")}
    assert found == {
        (8, "3 -> 4"),
        (8, "3 -> 2"),
        (12, "7 -> 8"),
        (12, "7 -> 6"),
        (14, "number < LIMIT -> number <= LIMIT"),
        (14, "number < LIMIT -> number >= LIMIT"),
        (14, "number < LIMIT and (not number) -> number < LIMIT or not number"),
        (14, "if number < LIMIT and (not number): -> if not (number < LIMIT and (not number)):"),
        (15, "without log(number)"),
        (16, "without number += 1"),
        (16, "number += 1 -> number -= 1"),
        (16, "1 -> 2"),
        (16, "1 -> 0"),
        (17, "True -> False"),
        (18, "number is None -> number is not None"),
    }


def test_each_mutant_is_source_again_and_another_one() -> None:
    texts = [ast.unparse(mutant.tree()) for mutant in mutants_of(SOURCE, "thing")]
    for text in texts:
        compile(text, "thing", "exec")
    assert len({*texts, ast.unparse(ast.parse(SOURCE))}) == len(texts) + 1
