import pytest
from bench.__main__ import parse
from bench.measures import MEASURES
from bench.namespaces import BenchError
from bench.plan import SECTIONS, make_plan, select

KNOWN = ("tcp1", "tcp1_reverse", "tcp10", "udp64")


@pytest.mark.parametrize(
    ("wanted", "chosen"),
    [
        ([], KNOWN),
        (["tcp1"], ("tcp1",)),
        (["tcp"], ("tcp1", "tcp1_reverse", "tcp10")),
        (["udp64,tcp1"], ("tcp1", "udp64")),
        (["udp", "tcp10"], ("tcp10", "udp64")),
    ],
)
def test_names_and_beginnings_select_in_the_known_order(wanted: list[str], chosen: tuple[str, ...]) -> None:
    assert select(wanted, KNOWN, "measure") == chosen


def test_unknown_name_is_refused_with_those_that_there_are() -> None:
    with pytest.raises(BenchError, match="no measure is called icmp; there are tcp1"):
        select(["icmp"], KNOWN, "measure")


def test_plan_without_a_choice_is_complete() -> None:
    plan = make_plan()
    assert plan.complete
    assert plan.runs >= 5
    assert plan.measures == tuple(MEASURES)
    assert plan.sections == SECTIONS


@pytest.mark.parametrize(
    "choice", [{"measures": ["tcp"]}, {"links": ["plain"]}, {"runs": 4}, {"competitors": ["weft"]}]
)
def test_plan_with_a_choice_is_not_complete(choice: dict[str, list[str]]) -> None:
    assert not make_plan(**choice).complete  # type: ignore[arg-type]


@pytest.mark.parametrize(("measure", "link"), [("tcp1", "plain"), ("ping", "plain")])
def test_python_floor_takes_part_in_its_own_measures_in_every_plan(measure: str, link: str) -> None:
    assert make_plan().takes("python_floor", measure, link)
    assert make_plan(competitors=["python_floor"]).takes("python_floor", measure, link)


@pytest.mark.parametrize(("measure", "link"), [("tcp1", "single"), ("ping", "single"), ("tcp10", "plain")])
def test_python_floor_takes_part_in_other_measures_only_if_competitors_are_named(measure: str, link: str) -> None:
    assert not make_plan().takes("python_floor", measure, link)
    assert not make_plan(quick=True, measures=[measure], links=[link]).takes("python_floor", measure, link)
    assert make_plan(competitors=["python_floor"]).takes("python_floor", measure, link)
    assert make_plan().takes("packet_floor", measure, link)


def test_quick_plan_leaves_out_what_takes_long_unless_it_is_named() -> None:
    assert "loss" not in make_plan(quick=True).sections
    assert make_plan(quick=True, measures=["loss"]).sections == ("loss",)


def test_command_line_selects_competitors_measures_and_links() -> None:
    arguments = "--quick --competitor weft,burst_floor packet_floor --measure tcp1 --link plain --runs 3 --json x.json"
    plan, file = parse(arguments.split())
    assert (plan.competitors, plan.measures, plan.links) == (
        ("burst_floor", "packet_floor", "weft"),
        ("tcp1",),
        ("plain",),
    )
    assert (plan.runs, plan.seconds, str(file)) == (3, 1, "x.json")


@pytest.mark.parametrize("option", ["--runs", "--seconds"])
def test_command_line_refuses_less_than_one(option: str) -> None:
    with pytest.raises(SystemExit):
        parse([option, "0"])
