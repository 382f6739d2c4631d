"""The pages of the docs on the API and on metrics, made from the tables by which both are served."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from weft.api import metrics
from weft.api.openapi import describe, example_of
from weft.api.request import Row
from weft.api.v0.route import Channel, Nothing, Route, Stream
from weft.api.v0.table import CHANNELS, DOCUMENTS, ROUTES, STREAMS
from weft.engine.metrics import table

_API = """\
# HTTP API

A daemon answers on the Unix socket `api.sock` of its directory, to its owner and root; with `[api] listen` in
`weft.toml` also on a TCP port of the loopback interface, to whoever shows the token of `[api] token_file`:

```sh
curl --unix-socket ~/.config/weft/api.sock http://localhost/v0/status
curl -H "Authorization: Bearer $(cat ~/.config/weft/api.token)" http://127.0.0.1:9480/v0/status
```

What only looks is a GET with its parameters in the query; what changes something is a POST with a JSON object as its
body. A field that a route does not know is refused. Every reply has `schema`, the version of its shape: it grows when a
field goes or changes its meaning, while new fields may come without it.

Whatever fails is told as a problem document (RFC 9457): `type` says what kind it is, and `detail` is one line for a
person. What goes on is told as server-sent events: each has one line of JSON as its `data`, a comment comes after 15 s
of silence, and an event called `problem` is the last where something failed. Who does not read for 10 s is dropped.

A node serves this page as OpenAPI 3.1, with all types and fields, at `/v0/openapi.json`.
"""

_METRICS = """\
# Metrics

A daemon tells these at `/metrics`, as Prometheus reads them. Prometheus does not speak to Unix sockets, so set
`[api] listen` in `weft.toml`, start the daemon anew, and give Prometheus a copy of the token that it made:

```yaml
scrape_configs:
  - job_name: weft
    authorization:
      credentials_file: /etc/prometheus/weft.token
    static_configs:
      - targets: ["127.0.0.1:9480"]
```

The label `peer` is a peer's name, or its id while it has none; `weft_peer_info` joins both. Counters begin anew with
the daemon; those of peers, handshakes and bursts also when all sessions are built anew.
"""


def api_page() -> str:
    """Each route with its parameters, an example, and what it answers."""
    schemas = describe()["components"]["schemas"]
    rows: tuple[Row, ...] = (*ROUTES, *STREAMS, *CHANNELS, *DOCUMENTS)
    return "\n\n".join([_API.rstrip(), *(part for row in rows for part in _about(row, schemas))]) + "\n"


def metrics_page() -> str:
    """Each metric with type, labels and meaning."""
    rows = [
        f"| `{metric.name}` | {metric.kind} | {', '.join(f'`{label}`' for label in metric.labels)} | {metric.meaning} |"
        for metric in (*table(), metrics.REQUESTS, metrics.STREAMS)
    ]
    return "\n".join((_METRICS, "| metric | type | labels | meaning |", "|---|---|---|---|", *rows)) + "\n"


def _about(row: Row, schemas: dict[str, Any]) -> Iterator[str]:
    yield f"## {row.method} {row.path}"
    yield f"{row.summary}."
    if row.parameters is not Nothing:
        schema = schemas[row.parameters.__name__]
        required = schema.get("required", ())
        rows = []
        for name, field in schema["properties"].items():
            default = "" if name in required else f"`{json.dumps(field.get('default'))}`"
            rows.append(f"| `{name}` | {default} | {field.get('description', '')} |")
        yield "\n".join(("| parameter | default | meaning |", "|---|---|---|", *rows))
    if row.method == "POST" and (example := example_of(row)):
        yield f"```json\n{json.dumps(example, ensure_ascii=False)}\n```"
    if isinstance(row, Route):
        yield f"Answers with `{row.result.__name__}`."
    elif isinstance(row, Stream):
        yield f"Tells events, each of them `{row.item.__name__}`."
    elif isinstance(row, Channel):
        yield f"With `Upgrade: {row.protocol}` answers with 101 and leaves HTTP, as `weft.Node.attach()` needs it."
    else:
        yield f"Answers with {' or '.join(f'`{kind}`' for kind in row.content_types)}."
