"""The text of metrics, as another implementation reads it; and the route that serves it."""

from __future__ import annotations

import asyncio
from collections import Counter
from pathlib import Path

import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families as read_open_metrics
from prometheus_client.parser import text_string_to_metric_families as read_text

from tests.unit.api.fake_engine import FakeEngine, serving
from weft.api import metrics
from weft.engine.metric import Family, Histogram, Metric

BYTES = Metric("weft_peer_transmit_bytes_total", "counter", 'Sent, "all" of it;\nback\\slash.', ("peer",))
LOSS = Metric("weft_peer_loss_ratio", "gauge", "Lost.", ("peer",))
PIECES = Metric("weft_burst_sent_pieces", "histogram", "Pieces.")
PLAIN = Metric("weft_interface_up", "gauge", "Up.")
NASTY = ['a"b', "back\\slash", "new\nline", "", "ünïcode", "{x=1} 2"]


def encode(*families: Family | Histogram, open_metrics: bool = False) -> str:
    return asyncio.run(metrics.encode(families, open_metrics=open_metrics)).decode()


@pytest.mark.parametrize("open_metrics", [False, True])
def test_label_values_of_any_kind_come_back(open_metrics: bool) -> None:
    keys = [(value,) for value in NASTY]
    text = encode(
        Family(BYTES, keys, range(len(NASTY))),
        Family(LOSS, keys, [0.1, 1e-7, 0, None, 1, 0.5]),
        Family(PLAIN, [()], [1]),
        open_metrics=open_metrics,
    )
    sent, loss, plain = (read_open_metrics if open_metrics else read_text)(text)
    assert {sample.labels["peer"]: sample.value for sample in sent.samples} == dict(zip(NASTY, range(6), strict=True))
    assert {sample.name for sample in sent.samples} == {"weft_peer_transmit_bytes_total"}
    assert (sent.type, sent.documentation) == ("counter", BYTES.meaning)
    assert [sample.value for sample in loss.samples] == [0.1, 1e-7, 0, 1, 0.5]
    assert [(sample.labels, sample.value) for sample in plain.samples] == [({}, 1)]


@pytest.mark.parametrize("open_metrics", [False, True])
def test_histogram_has_buckets_sum_and_count(open_metrics: bool) -> None:
    counts = [0] * 65
    counts[1], counts[3], counts[44], counts[64] = 5, 2, 7, 1
    text = encode(Histogram(PIECES, counts), open_metrics=open_metrics)
    (family,) = (read_open_metrics if open_metrics else read_text)(text)
    buckets = {sample.labels["le"]: sample.value for sample in family.samples if sample.name.endswith("_bucket")}
    assert buckets == {"1.0": 5, "2.0": 5, "4.0": 7, "8.0": 7, "16.0": 7, "32.0": 7, "64.0": 15, "+Inf": 15}
    rest = {sample.name: sample.value for sample in family.samples if not sample.name.endswith("_bucket")}
    assert rest == {"weft_burst_sent_pieces_sum": 5 + 6 + 308 + 64, "weft_burst_sent_pieces_count": 15}


def test_empty_histogram_and_family_without_values_are_valid() -> None:
    text = encode(Histogram(PIECES, [0]), Family(LOSS, [], []), open_metrics=True)
    assert [family.name for family in read_open_metrics(text)] == ["weft_burst_sent_pieces", "weft_peer_loss_ratio"]


def test_both_families_with_the_same_keys_get_their_own_label_names() -> None:
    keys = [("x",)]
    text = encode(Family(LOSS, keys, [1]), Family(LOSS._replace(name="weft_other", labels=("task",)), keys, [2]))
    assert 'weft_peer_loss_ratio{peer="x"} 1\n' in text
    assert 'weft_other{task="x"} 2\n' in text


async def test_others_have_their_turn_while_much_is_written(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(metrics, "SLICE_S", 0.0)
    turns = 0

    async def count() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    other = asyncio.create_task(count())
    await metrics.encode([Family(PLAIN, [()], [1])] * 10, open_metrics=False)
    other.cancel()
    assert turns >= 10


def test_what_the_api_counts_is_by_route_and_status() -> None:
    text = encode(*metrics.own(Counter({("/v0/info", 200): 3, ("other", 404): 1}), 2))
    assert 'weft_api_requests_total{route="/v0/info",status="200"} 3\n' in text
    assert 'weft_api_requests_total{route="other",status="404"} 1\n' in text
    assert "weft_api_streams 2\n" in text


async def scrape(path: Path, accept: str) -> tuple[str, str]:
    reader, writer = await asyncio.open_unix_connection(path)
    writer.write(f"GET /metrics HTTP/1.1\r\nHost: x\r\nAccept: {accept}\r\nConnection: close\r\n\r\n".encode())
    head, _, body = (await reader.read()).decode().partition("\r\n\r\n")
    writer.close()
    return next(line for line in head.split("\r\n") if line.startswith("Content-Type: ")), body


async def test_each_gets_the_format_that_it_accepts_and_the_requests_are_counted(tmp_path: Path) -> None:
    engine = FakeEngine()
    engine.measured = [Family(LOSS, [("loom",)], [0.25])]
    path = tmp_path / "api.sock"
    async with serving(engine, path):
        kind, body = await scrape(path, "*/*")
        assert kind == "Content-Type: text/plain; version=0.0.4; charset=utf-8"
        assert [family.name for family in read_text(body)] == [
            "weft_peer_loss_ratio",
            "weft_api_requests",
            "weft_api_streams",
        ]
        kind, body = await scrape(path, "application/openmetrics-text;version=1.0.0,text/plain;version=0.0.4;q=0.5")
        assert kind == "Content-Type: application/openmetrics-text; version=1.0.0; charset=utf-8"
        families = {family.name: family for family in read_open_metrics(body)}
    (sample,) = families["weft_api_requests"].samples
    assert (sample.labels, sample.value) == ({"route": "/metrics", "status": "200"}, 1)
