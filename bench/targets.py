"""The targets of `targets.toml`: read, computed from the figures of a run, and judged.

A target's value is an expression over names like `tcp1.plain.weft` (measure, link, competitor), each of which stands
for the median of its samples; allowed are numbers, + - * /, max() and min().
"""

from __future__ import annotations

import ast
import enum
import operator
import tomllib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from bench.results import Name, Results

FILE = Path(__file__).parent / "targets.toml"

OPERATORS: dict[type[ast.operator], Callable[[float, float], float]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
}
FUNCTIONS: dict[str, Callable[..., float]] = {"max": max, "min": min}


class Verdict(enum.Enum):
    """What a run says of a target."""

    MET = "met"
    MISSED = "missed"
    UNMEASURED = "not measured"


@dataclass(frozen=True)
class Target:
    """One line of what was promised.

    Attributes:
        name: short, unique.
        value: the expression.
        bound: the least (`at_least`) or the most that meets it.
        at_least: which of the two.
        goal: what is hoped for beyond the bound.
        source: the sentence that it comes from.
    """

    name: str
    value: str
    bound: float
    at_least: bool
    goal: float | None
    source: str

    def names(self) -> list[Name]:
        """Everything that has to be measured to judge it."""
        return [
            Name(*ast.unparse(node).split("."))
            for node in ast.walk(ast.parse(self.value, mode="eval"))
            if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Attribute)
        ]

    def compute(self, results: Results) -> float | None:
        """Its value in this run; None if something it needs was not measured."""
        medians = {str(name): results.median(name) for name in self.names()}
        known = {name: value for name, value in medians.items() if value is not None}
        if len(known) < len(medians):
            return None
        try:
            return evaluate(ast.parse(self.value, mode="eval").body, known)
        except ZeroDivisionError:
            return None

    def judge(self, value: float | None) -> Verdict:
        """Whether a value meets it."""
        if value is None:
            return Verdict.UNMEASURED
        return Verdict.MET if (value >= self.bound if self.at_least else value <= self.bound) else Verdict.MISSED


def evaluate(node: ast.expr, medians: dict[str, float]) -> float:
    """The value of an expression over named figures.

    Raises:
        ValueError: the expression holds something that is not allowed.
    """
    match node:
        case ast.Constant(value=int() | float() as number):
            return float(number)
        case ast.Attribute():
            return medians[ast.unparse(node)]
        case ast.BinOp(left=left, op=op, right=right) if type(op) in OPERATORS:
            return OPERATORS[type(op)](evaluate(left, medians), evaluate(right, medians))
        case ast.Call(func=ast.Name(id=name), args=args, keywords=[]) if name in FUNCTIONS:
            return FUNCTIONS[name](*(evaluate(arg, medians) for arg in args))
    raise ValueError(f"{ast.unparse(node)} is not allowed in the value of a target")


def read(path: Path = FILE) -> list[Target]:
    """All targets, in the order of the file.

    Raises:
        ValueError: a target has not exactly one bound, or its value is no expression of the allowed kind.
    """
    targets = []
    for row in tomllib.loads(path.read_text())["target"]:
        bounds = {"at_least", "at_most"} & row.keys()
        if len(bounds) != 1:
            raise ValueError(f"{row['name']}: needs one of at_least and at_most")
        (bound,) = bounds
        target = Target(
            row["name"], row["value"], row[bound], bound == "at_least", row.get("goal"), " ".join(row["source"].split())
        )
        evaluate(ast.parse(target.value, mode="eval").body, {str(name): 1.0 for name in target.names()})
        targets.append(target)
    return targets
