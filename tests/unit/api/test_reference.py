"""The pages that are made from the tables have all that is in them."""

from __future__ import annotations

from weft.api.reference import api_page, metrics_page
from weft.api.v0.table import CHANNELS, DOCUMENTS, ROUTES, STREAMS
from weft.engine.metrics import table


def test_page_of_the_api_has_each_route_with_its_parameters() -> None:
    page = api_page()
    headings = [line for line in page.splitlines() if line.startswith("## ")]
    assert headings == [f"## {row.method} {row.path}" for row in (*ROUTES, *STREAMS, *CHANNELS, *DOCUMENTS)]
    assert "| `timeout_s` | `5.0` | How long to wait for the other side. |" in page
    assert '{"peer": "phone"}' in page
    assert "Tells events, each of them `Event`." in page


def test_page_of_metrics_has_each_metric_once() -> None:
    page = metrics_page()
    names = [line.split("`")[1] for line in page.splitlines() if line.startswith("| `")]
    assert len(names) == len(set(names))
    assert set(names) == {metric.name for metric in table()} | {"weft_api_requests_total", "weft_api_streams"}
    assert "| `weft_peer_info` | gauge | `peer`, `id`, `kind` |" in page


def test_pages_stay_within_their_tables() -> None:
    for line in (api_page() + metrics_page()).splitlines():
        if line.startswith("| "):
            assert line.replace("\\|", "").count("|") in {4, 5}, line
