"""Mutants: small changes to the source, each of which some test should notice.

    python -m checks.mutate src/weft/stack/tcp --sample 300 --seed 1

A mutant differs from the source in one place: a comparison, an operator, a condition turned around, a constant that is
one more or less, a statement left out. For each the tests of the same room run until the first one fails; those that
none notices are printed, with the share of all. Nothing in the checkout is touched: the tests run on a copy, and the
mutated module exists in memory only, in a process that is forked off for it.

Source: R. A. DeMillo, R. J. Lipton, F. G. Sayward, Hints on test data selection, 1978.
Not done here: mutants in annotations, docstrings, `__slots__` and `__repr__`, which mean nothing at run time.
"""

from __future__ import annotations

import argparse
import ast
import copy
import math
import os
import random
import re
import resource
import shutil
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from importlib.abc import InspectLoader, MetaPathFinder
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import CodeType, ModuleType
from typing import NamedTuple

ROOT = Path(__file__).resolve().parent.parent
TIMES = 4
"""The processor time of the tests that a mutant may use, before it counts as one that never ends. How long they take by
the clock says nothing on a machine that has other work."""
MEMORY_BYTES = 2 << 30
POLL_S = 0.01
WITHOUT = frozenset({"test_scapy.py", "test_requirements.py"})
"""Tests of other things than what a module does."""
FIRST_FILES = 3
INI = "[pytest]\npythonpath = . src\nfilterwarnings = ignore\nmarkers = long\n"

Change = Callable[[ast.AST], None]
"""Changes a node in place."""

COMPARISONS: dict[type[ast.cmpop], tuple[type[ast.cmpop], ...]] = {
    ast.Lt: (ast.LtE, ast.GtE),
    ast.LtE: (ast.Lt, ast.Gt),
    ast.Gt: (ast.GtE, ast.LtE),
    ast.GtE: (ast.Gt, ast.Lt),
    ast.Eq: (ast.NotEq,),
    ast.NotEq: (ast.Eq,),
    ast.Is: (ast.IsNot,),
    ast.IsNot: (ast.Is,),
    ast.In: (ast.NotIn,),
    ast.NotIn: (ast.In,),
}
OPERATORS: dict[type[ast.operator], type[ast.operator]] = {
    ast.Add: ast.Sub,
    ast.Sub: ast.Add,
    ast.Mult: ast.FloorDiv,
    ast.FloorDiv: ast.Mult,
    ast.Div: ast.Mult,
    ast.Mod: ast.FloorDiv,
    ast.LShift: ast.RShift,
    ast.RShift: ast.LShift,
    ast.BitAnd: ast.BitOr,
    ast.BitOr: ast.BitAnd,
}


class Mutant(NamedTuple):
    """One change."""

    module: str
    """Dotted."""
    line: int
    what: str
    """Before and after."""
    source: str
    """Of the module, unchanged."""
    node: int
    """Which node of it is changed."""
    change: int
    """Which of the changes of the node it is."""

    def tree(self) -> ast.Module:
        """The module with the change."""
        tree = ast.parse(self.source)
        node = next(each for number, each in enumerate(_walk(tree)) if number == self.node)
        list(_changes(node))[self.change][1](node)
        return ast.fix_missing_locations(tree)


def mutants_of(source: str, module: str) -> Iterator[Mutant]:
    """All mutants of a module, in the order of its lines."""
    for number, node in enumerate(_walk(ast.parse(source))):
        before = ast.unparse(node).splitlines()[:1]
        for index, (removed, change) in enumerate(_changes(node)):
            line = getattr(node if removed is None else removed, "lineno", 0)
            if removed is None:
                changed = copy.deepcopy(node)
                change(changed)
                what = f"{before[0]} -> {ast.unparse(changed).splitlines()[0]}"
            else:
                what = f"without {ast.unparse(removed)}"
            yield Mutant(module, line, what, source, number, index)


def _walk(node: ast.AST) -> Iterator[ast.AST]:
    """The nodes that mean something at run time, depth first."""
    if _means_nothing(node):
        return
    yield node
    skipped: set[int] = set()
    if isinstance(node, ast.AnnAssign):
        skipped.add(id(node.annotation))
    elif isinstance(node, ast.FunctionDef):
        skipped |= {id(node.returns), *map(id, node.decorator_list)}
    for child in ast.iter_child_nodes(node):
        if id(child) not in skipped:
            yield from _walk(child)


def _means_nothing(node: ast.AST) -> bool:
    match node:
        case ast.Expr(value=ast.Constant()) | ast.arg() | ast.FunctionDef(name="__repr__"):
            return True
        case ast.Assign(targets=[ast.Name(id="__slots__" | "__all__")]):
            return True
        case ast.If(test=ast.Name(id="TYPE_CHECKING")):
            return True
    return False


def _changes(node: ast.AST) -> Iterator[tuple[ast.stmt | None, Change]]:
    """What can be done to a node, with the statement that is removed thereby, if one is."""
    match node:
        case ast.Compare(ops=[op]):
            for other in COMPARISONS[type(op)]:
                yield None, _setter("ops", [other()])
        case ast.BinOp(op=op) | ast.AugAssign(op=op) if type(op) in OPERATORS:
            yield None, _setter("op", OPERATORS[type(op)]())
        case ast.BoolOp(op=op):
            yield None, _setter("op", ast.Or() if isinstance(op, ast.And) else ast.And())
        case ast.Constant(value=bool() as value):
            yield None, _setter("value", not value)
        case ast.Constant(value=int() | float() as value):
            yield None, _setter("value", value + 1)
            yield None, _setter("value", value - 1)
    if isinstance(node, ast.If | ast.While | ast.IfExp) and not isinstance(node.test, ast.Compare):
        yield None, _setter("test", ast.UnaryOp(ast.Not(), node.test))
    for field in ("body", "orelse"):
        block = getattr(node, field, None)
        if isinstance(block, list):
            for index, statement in enumerate(block):
                if _is_removable(statement):
                    yield statement, _remover(field, index)


def _is_removable(statement: ast.stmt) -> bool:
    match statement:
        case ast.Expr(value=ast.Call()) | ast.AugAssign() | ast.Raise() | ast.Continue() | ast.Break() | ast.Delete():
            return True
        case ast.Return(value=None):
            return True
        case ast.Assign(targets=[ast.Attribute() | ast.Subscript(), *_]):
            return True
    return False


def _setter(field: str, value: object) -> Change:
    return lambda node: setattr(node, field, value)


def _remover(field: str, index: int) -> Change:
    def change(node: ast.AST) -> None:
        block = getattr(node, field)
        block[index] = ast.Pass()

    return change


class _Loader(InspectLoader):
    """Gives one module another body."""

    def __init__(self, tree: ast.Module, path: str) -> None:
        self._tree = tree
        self._path = path

    def get_source(self, fullname: str) -> None:
        return None

    def get_code(self, fullname: str) -> CodeType:
        code: CodeType = compile(self._tree, self._path, "exec")
        return code


class _Finder(MetaPathFinder):
    def __init__(self, mutant: Mutant, path: str) -> None:
        self._mutant = mutant
        self._path = path

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if fullname != self._mutant.module:
            return None
        return ModuleSpec(fullname, _Loader(self._mutant.tree(), self._path), origin=self._path)


class Outcome(NamedTuple):
    """What the tests said of a mutant."""

    is_alive: bool
    by: str
    """The test file that failed, or why else it is dead."""


class Field:
    """Where mutants run: a copy of the source and its tests, and the order in which these are tried.

    Attributes:
        processor_s: of each; None for as much as it needs.
    """

    def __init__(self, package: Path, tests: Path, folder: Path) -> None:
        self.folder = folder
        self.processor_s: int | None = None
        self._killers: dict[str, Counter[str]] = {}
        shutil.copytree(ROOT / "src", folder / "src", ignore=shutil.ignore_patterns("__pycache__"))
        shutil.copytree(ROOT / tests, folder / tests, ignore=shutil.ignore_patterns("__pycache__"))
        # What its tests share with those of other rooms; the profile is ours.
        for shared in (path for parent in tests.parents[:-1] for path in (ROOT / parent).glob("*.py")):
            if not shared.name.startswith(("test_", "conftest.")):
                shutil.copy(shared, folder / shared.relative_to(ROOT))
        (folder / "pytest.ini").write_text(INI, encoding="utf-8")
        self._files = sorted(path for path in (folder / tests).glob("test_*.py") if path.name not in WITHOUT)
        self._texts = {path: path.read_text(encoding="utf-8") for path in self._files}

    def files_for(self, module: str) -> list[Path]:
        """The test files, those first that are likely to notice a change of a module."""
        killers = self._killers.get(module, Counter[str]())
        mentions = {path: len(re.findall(rf"\b{re.escape(module)}\b", self._texts[path])) for path in self._files}
        return sorted(self._files, key=lambda path: (-killers[path.name], -mentions[path]))

    def start(self, mutant: Mutant | None) -> tuple[int, int]:
        """Fork off a process in which the tests run; its id, and what it writes to before it ends."""
        module = mutant.module if mutant is not None else ""
        files = self.files_for(module)
        reads, writes = os.pipe()
        process = os.fork()
        if process:
            os.close(writes)
            return process, reads
        os.setpgid(0, 0)
        if self.processor_s is not None:
            resource.setrlimit(resource.RLIMIT_CPU, (self.processor_s, self.processor_s))
            resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, MEMORY_BYTES))
        silence = os.open(os.devnull, os.O_WRONLY)
        os.dup2(silence, 1)
        os.dup2(silence, 2)
        code = 1
        try:
            if mutant is not None:
                path = self.folder / "src" / f"{module.replace('.', '/')}.py"
                sys.meta_path.insert(0, _Finder(mutant, str(path)))
            code = _run_tests(self.folder, files, writes)
        finally:
            os._exit(code)

    def note(self, mutant: Mutant, outcome: Outcome) -> None:
        """Let the test file that killed a mutant come first for the next of that module."""
        self._killers.setdefault(mutant.module, Counter())[outcome.by] += 1


def _run_tests(folder: Path, files: list[Path], writes: int) -> int:
    import pytest

    class Reporter:
        def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
            if report.failed:
                os.write(writes, f"{Path(report.fspath).name}\n".encode())

    os.chdir(folder)
    sys.path[:0] = [str(folder / "src"), str(folder)]
    arguments = ["-x", "-q", "-p", "no:cacheprovider", "-c", str(folder / "pytest.ini"), "--rootdir", str(folder)]
    # Most mutants are noticed by the first files, and the others need not be imported then.
    for batch in (files[:FIRST_FILES], files[FIRST_FILES:]):
        code = int(pytest.main([*arguments, *map(str, batch)], plugins=[Reporter()]))
        if code:
            break
    return code


def run(field: Field, mutants: list[Mutant], jobs: int) -> list[tuple[Mutant, Outcome]]:
    """Run the tests on each mutant, some at a time."""
    waiting = list(reversed(mutants))
    running: dict[int, tuple[Mutant, int]] = {}
    done: list[tuple[Mutant, Outcome]] = []
    while waiting or running:
        while waiting and len(running) < jobs:
            mutant = waiting.pop()
            process, reads = field.start(mutant)
            running[process] = mutant, reads
        for process in list(running):
            mutant, reads = running[process]
            ended, status = os.waitpid(process, os.WNOHANG)
            if not ended:
                continue
            if os.WIFSIGNALED(status):
                outcome = Outcome(is_alive=False, by="it never ends")
            else:
                by = os.read(reads, 200).decode().partition("\n")[0] or "it can't be imported"
                outcome = Outcome(os.waitstatus_to_exitcode(status) == 0, by)
            os.close(reads)
            del running[process]
            if outcome.is_alive:
                print(f"alive  {mutant.module}:{mutant.line}  {mutant.what}", flush=True)
            else:
                field.note(mutant, outcome)
            done.append((mutant, outcome))
        time.sleep(POLL_S)
    return done


def collect(package: Path) -> list[Mutant]:
    """All mutants of the modules of a package, or of one module."""
    found: list[Mutant] = []
    for path in sorted(package.rglob("*.py")) if package.is_dir() else [package]:
        module = ".".join(path.resolve().relative_to(ROOT / "src").with_suffix("").parts)
        found += mutants_of(path.read_text(encoding="utf-8"), module)
    return found


def main() -> int:
    """The command."""
    parser = argparse.ArgumentParser(description="Change the source in one place at a time, and see what tests notice.")
    parser.add_argument("package", type=Path, help="a package under src/, or one module of it")
    parser.add_argument("--tests", type=Path, help="folder of its tests; by default its mirror under tests/unit")
    parser.add_argument("--sample", type=int, help="so many mutants, chosen at random; all by default")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1)
    arguments = parser.parse_args()
    package = arguments.package.resolve()
    room = package if package.is_dir() else package.parent
    tests = arguments.tests or Path("tests/unit") / room.relative_to(ROOT / "src" / "weft")
    os.environ.update(PYTEST_DISABLE_PLUGIN_AUTOLOAD="1", HYPOTHESIS_STORAGE_DIRECTORY=os.devnull)
    _preload()
    mutants = collect(package)
    total = len(mutants)
    if arguments.sample is not None and arguments.sample < total:
        mutants = random.Random(arguments.seed).sample(mutants, arguments.sample)
    with tempfile.TemporaryDirectory() as folder:
        field = Field(package, tests, Path(folder))
        process, reads = field.start(None)
        _, status, used = os.wait4(process, 0)
        if os.waitstatus_to_exitcode(status):
            print(f"the tests fail without any change: {os.read(reads, 200).decode()}")
            return 1
        field.processor_s = math.ceil(TIMES * (used.ru_utime + used.ru_stime))
        done = run(field, mutants, arguments.jobs)
    alive = sum(outcome.is_alive for _, outcome in done)
    print(f"{len(done)} of {total} mutants, {alive} alive: {100 * alive / max(1, len(done)):.1f} %")
    for by, number in Counter(outcome.by for _, outcome in done if not outcome.is_alive).most_common():
        print(f"{number:6}  {by}")
    return 0


def _preload() -> None:
    """Import what each process would, but for the source itself."""
    import hypothesis
    import pytest

    hypothesis.settings.register_profile("mutants", max_examples=20, derandomize=True, deadline=None, database=None)
    hypothesis.settings.load_profile("mutants")
    assert pytest.__version__


if __name__ == "__main__":
    sys.exit(main())
