import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from bench import programs, stack
from bench.namespaces import BenchError
from bench.plan import SECTIONS, make_plan
from bench.programs import Program
from bench.rows import ROWS


def test_every_part_of_the_stack_is_a_section_and_has_rows() -> None:
    parts = {*stack.TURNS, *stack.ALONE, "stack_nodes"}
    assert parts == {section for section in SECTIONS if section.startswith("stack")}
    for part in parts:
        assert any(row.startswith(part) for row in ROWS)


def test_all_of_the_stack_is_selected_by_its_beginning_and_nothing_else() -> None:
    plan = make_plan(measures=["stack"])
    assert plan.sections == tuple(section for section in SECTIONS if section.startswith("stack"))
    assert not plan.measures


def test_spread_of_equal_shares_is_nothing() -> None:
    figures = stack.fairness([1_000_000] * 4, 2.0)
    assert figures["stack_fair"] == 0
    assert figures["stack_fair_least"] == figures["stack_fair_most"] == 1
    assert figures["stack_fair_sum"] == pytest.approx(0.016)


def test_spread_is_of_the_mean() -> None:
    figures = stack.fairness([50, 150], 1.0)
    assert figures["stack_fair"] == pytest.approx(0.5)
    assert (figures["stack_fair_least"], figures["stack_fair_most"]) == (0.5, 1.5)


class Here:
    """A host that is this one; what runs there has the rights of the test."""

    name = "here"

    def command(self, *argv: str) -> tuple[str, ...]:
        return argv[len(programs.WITHOUT_RIGHTS) :]


@pytest.fixture
def program(tmp_path: Path) -> Iterator[Program]:
    host: Any = Here()
    program = Program(host, tmp_path / "log", "socket_ends")
    yield program
    program.stop()


def test_program_does_what_it_is_told_and_ends_with_its_input(program: Program) -> None:
    assert program.tell("serve", host="127.0.0.1") == {}
    done = program.tell("transfer", host="127.0.0.1", streams=2, seconds=0.05)
    assert done["bytes"] > 0
    program.stop()
    assert program.process.returncode is not None


def test_program_that_fails_tells_why(program: Program) -> None:
    with pytest.raises(BenchError, match="socket_ends in here, transfer: ConnectionRefusedError"):
        program.tell("transfer", host="127.0.0.1", streams=1, seconds=0)


def test_program_that_has_ended_is_told_from_one_that_is_slow(program: Program) -> None:
    program.log.write_text("first\nthe last of its words\n")
    program.process.kill()
    program.process.wait()
    with pytest.raises(BenchError, match="has ended: the last of its words"):
        program.tell("serve", host="127.0.0.1")


def test_program_that_does_not_answer_in_time_is_ended(program: Program) -> None:
    program.tell("serve", host="127.0.0.1")
    with pytest.raises(BenchError, match=r"transfer: no answer after 0\.1 s"):
        program.tell("transfer", timeout_s=0.1, host="127.0.0.1", streams=1, seconds=5)
    assert program.process.wait(timeout=10)


def test_programs_are_run_by_this_interpreter(program: Program) -> None:
    assert program.process.args[0] == sys.executable  # type: ignore[index]
