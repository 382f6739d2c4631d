from bench import clients
from bench.plan import SECTIONS, make_plan
from bench.rows import ROWS


def test_every_part_of_the_clients_is_a_section_and_has_rows() -> None:
    assert {*clients.TURNS} == {section for section in SECTIONS if section.startswith("clients")}
    for part in clients.TURNS:
        assert any(row.startswith(part) for row in ROWS)


def test_all_of_the_clients_is_selected_by_its_beginning_and_nothing_else() -> None:
    plan = make_plan(measures=["clients"])
    assert plan.sections == tuple(clients.TURNS)
    assert not plan.measures
