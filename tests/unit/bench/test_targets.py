import re
from pathlib import Path

import pytest
from bench import clients, stack, targets
from bench.plan import SECTIONS, factories
from bench.results import Name, Results
from bench.rows import ROWS
from bench.targets import Target, Verdict


def results_of(**medians: float) -> Results:
    results = Results()
    for name, value in medians.items():
        results.add(Name(*name.split("__")), value)
    return results


def target(value: str, *, bound: float = 1.0, at_least: bool = True) -> Target:
    return Target("t", value, bound, at_least, None, "because")


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("tcp1.plain.weft / tcp1.plain.floor", 0.5),
        ("tcp1.plain.weft - 1", 1.0),
        ("tcp1.plain.weft * (tcp1.plain.floor + 1)", 10.0),
        ("tcp1.plain.weft / max(tcp1.plain.floor, tcp1.plain.other)", 0.25),
        ("min(tcp1.plain.floor, tcp1.plain.other)", 4.0),
    ],
)
def test_value_over_medians_is_computed(value: str, expected: float) -> None:
    results = results_of(tcp1__plain__weft=2.0, tcp1__plain__floor=4.0, tcp1__plain__other=8.0)
    assert target(value).compute(results) == pytest.approx(expected)


def test_value_uses_the_median_of_all_samples() -> None:
    results = Results()
    for value in (1.0, 100.0, 3.0):
        results.add(Name("tcp1", "plain", "weft"), value)
    assert target("tcp1.plain.weft").compute(results) == 3.0


def test_value_without_a_sample_is_unmeasured() -> None:
    unmeasured = target("tcp1.plain.weft / tcp1.plain.floor")
    assert unmeasured.compute(results_of(tcp1__plain__weft=2.0)) is None
    assert unmeasured.judge(None) is Verdict.UNMEASURED


def test_division_by_zero_is_unmeasured() -> None:
    assert target("1 / tcp1.plain.weft").compute(results_of(tcp1__plain__weft=0.0)) is None


@pytest.mark.parametrize(
    ("at_least", "value", "verdict"),
    [
        (True, 1.0, Verdict.MET),
        (True, 0.999, Verdict.MISSED),
        (False, 1.0, Verdict.MET),
        (False, 1.001, Verdict.MISSED),
    ],
)
def test_value_at_or_beyond_the_bound_is_judged(at_least: bool, value: float, verdict: Verdict) -> None:
    assert target("1", at_least=at_least).judge(value) is verdict


@pytest.mark.parametrize("value", ["__import__('os')", "open.plain.weft()", "tcp1.plain.weft ** 9", "'text'", "a[0]"])
def test_expression_beyond_arithmetic_is_refused(value: str, tmp_path: Path) -> None:
    file = tmp_path / "targets.toml"
    file.write_text(f'[[target]]\nname = "t"\nvalue = "{value}"\nat_least = 1.0\nsource = "s"\n')
    with pytest.raises(ValueError, match="not allowed"):
        targets.read(file)


@pytest.mark.parametrize("bounds", ["", "at_least = 1.0\nat_most = 2.0\n"])
def test_target_without_exactly_one_bound_is_refused(bounds: str, tmp_path: Path) -> None:
    file = tmp_path / "targets.toml"
    file.write_text(f'[[target]]\nname = "t"\nvalue = "1.0"\nsource = "s"\n{bounds}')
    with pytest.raises(ValueError, match="at_least and at_most"):
        targets.read(file)


def test_every_target_of_the_project_names_what_the_benchmark_measures() -> None:
    in_sections = {name for turns in (*stack.TURNS.values(), *clients.TURNS.values()) for name in turns}
    competitors = {*factories(), *in_sections, "weft_whole", "weft_burdened", "noiseprotocol"}
    for each in targets.read():
        for name in each.names():
            assert name.measure in ROWS, each.name
            assert name.link in {"plain", "single", "process"}, each.name
            assert name.competitor in competitors, each.name


def test_every_target_of_the_project_has_a_name_of_its_own_and_a_source() -> None:
    everything = targets.read()
    assert len({each.name for each in everything}) == len(everything)
    assert all(re.search(r"\w+ \w+", each.source) for each in everything)


def test_every_section_of_a_run_has_a_target() -> None:
    measures = " ".join(name.measure for each in targets.read() for name in each.names())
    assert all(section.removesuffix("s") in measures for section in SECTIONS)
