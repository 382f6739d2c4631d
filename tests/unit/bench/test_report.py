import json
from pathlib import Path

from bench import report
from bench.results import Name, Results
from bench.targets import Target

MET = Target("met one", "tcp1.plain.weft / tcp1.plain.burst_floor", 0.5, True, 0.6, "s")
MISSED = Target("missed one", "tcp1.plain.weft", 9.0, True, None, "s")
UNMEASURED = Target("unmeasured one", "tcp10.plain.weft", 9.0, True, None, "s")
ALL = [MET, MISSED, UNMEASURED]


def two_competitors() -> Results:
    results = Results()
    for value in (3.0, 2.0, 4.0):
        results.add(Name("tcp1", "plain", "weft"), value)
        results.add(Name("tcp1", "plain", "burst_floor"), 2 * value)
    results.add(Name("tcp10", "plain", "burst_floor"), 5.0)
    results.fail(Name("tcp10", "plain", "weft"), "it ended")
    return results


def test_grid_puts_text_to_the_left_and_figures_to_the_right() -> None:
    assert report.grid([["name", "b"], ["a", "1.00"]]) == "name     b\n----  ----\na     1.00"


def test_figures_have_a_row_a_measure_and_a_dash_where_nothing_was_measured() -> None:
    lines = report.figures(two_competitors(), "plain").splitlines()
    assert lines[0].split() == ["link:", "plain", "weft", "burst_floor"]
    assert lines[2].split()[-2:] == ["3.00", "6.00"]
    assert lines[3].split()[-2:] == ["-", "5.00"]


def test_figures_of_a_link_that_was_not_measured_are_empty() -> None:
    assert report.figures(two_competitors(), "single") == ""


def test_verdicts_say_value_bound_goal_and_outcome() -> None:
    lines = [line.split() for line in report.verdicts(ALL, two_competitors()).splitlines()]
    assert lines[2] == ["met", "one", "0.500", ">=", "0.5", ">=", "0.6", "met"]
    assert lines[3] == ["missed", "one", "3.000", ">=", "9", "missed"]
    assert lines[4] == ["unmeasured", "one", "-", ">=", "9", "not", "measured"]


def test_target_without_a_figure_is_missed_only_by_a_complete_run() -> None:
    assert report.missed(ALL, two_competitors(), complete=False) == [MISSED]
    assert report.missed(ALL, two_competitors(), complete=True) == [MISSED, UNMEASURED]


def test_text_names_what_could_not_be_measured() -> None:
    assert "tcp10.plain.weft: it ended" in report.text(two_competitors(), ALL, {"cpu": "one"})


def test_json_holds_every_sample_median_and_verdict() -> None:
    document = json.loads(report.as_json(two_competitors(), ALL, {"cpu": "one"}, {"runs": 3}))
    assert document["schema"] == report.SCHEMA
    assert document["samples"]["tcp1.plain.weft"] == [3.0, 2.0, 4.0]
    assert document["medians"]["tcp1.plain.weft"] == 3.0
    assert [row["verdict"] for row in document["targets"]] == ["met", "missed", "not measured"]


def test_plot_of_bars_and_loss_is_written(tmp_path: Path) -> None:
    results = two_competitors()
    results.add(Name("loss_200", "single", "weft"), 1.0)
    results.add(Name("loss_1000", "single", "weft"), 2.0)
    file = tmp_path / "plot.png"
    assert report.plot(results, file)
    assert file.read_bytes().startswith(b"\x89PNG")


def test_plot_of_nothing_is_not_written(tmp_path: Path) -> None:
    assert not report.plot(Results(), tmp_path / "plot.png")
    assert not list(tmp_path.iterdir())
