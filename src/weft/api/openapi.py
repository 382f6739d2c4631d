"""The API described as OpenAPI 3.1, made from the route table.

Types come from the parameter and reply structs, their descriptions from docstrings and from the texts below their
fields. The problems of a route follow from its kind: only what has parameters can have wrong ones, and only what
changes something waits for others.

Source: the OpenAPI Specification 3.1.1; JSON Schema 2020-12; RFC 9457.
"""

from __future__ import annotations

import ast
import inspect
import json
import textwrap
from functools import cache
from typing import Any, Final

import msgspec
import msgspec.inspect

from weft import __version__
from weft.api.problem import CONTENT_TYPE, KINDS, Problem
from weft.api.request import TITLES, Row
from weft.api.sse import CONTENT_TYPE as EVENT_STREAM
from weft.api.sse import PROBLEM
from weft.api.v0.route import Channel, Document, Nothing, Route, Stream
from weft.api.v0.table import CHANNELS, DOCUMENTS, ROUTES, STREAMS

_REF: Final = "#/components/schemas/{name}"
_ABOUT: Final = """\
What a weft node can be asked. It answers on the Unix socket `api.sock` of its directory, to its owner and root:

    curl --unix-socket ~/.config/weft/api.sock http://localhost/v0/status

and on a TCP port of the loopback interface, if `[api] listen` is set in weft.toml, to whoever shows its token.

What only looks is a GET with its parameters in the query, what changes something is a POST with a JSON object. A field
that a route does not know is refused. Whatever fails is told as a problem document (RFC 9457), whose `detail` is one
line for a person. Every reply has `schema`, the version of its shape.
"""

_LOOKS: Final = frozenset({400, 408, 413, 500})
"""Statuses of whatever is asked: a request that is none, one with a body, a fault; a session that is not there."""
_PARAMETERS: Final = frozenset({422})
_CHANGES: Final = frozenset({415}) | {kind.status for kind in KINDS}
_TCP: Final = frozenset({401, 421, 429})

_KEY: Final = "xTIBA5rboUvnH4htodjb6e697QjLERt1NAB4mZqp8Dg="
FIELDS: Final[dict[str, Any]] = {
    "allowed_ips": ["10.7.0.2/32"],
    "destination": "fc11::1",
    "key": "peer.keepalive_s",
    "kinds": ["peer-up", "peer-down"],
    "multiaddr": "/ip4/0.0.0.0/udp/1313",
    "peer": "phone",
    "peers": [
        {"public_key": "xTIBA5rboUvnH4htodjb6e697QjLERt1NAB4mZqp8Dg=", "name": "phone", "allowed_ips": ["10.7.0.2/32"]}
    ],
    "public_key": "xTIBA5rboUvnH4htodjb6e697QjLERt1NAB4mZqp8Dg=",
    "rules": ["/tcp/80", "/icmp"],
    "target": "/ip4/192.0.2.1/udp/1312",
    "value": 20,
    "what": "/tcp/22",
}
"""An example of each field that must be given, and of some that may be."""

FIELDS_OF: Final[dict[str, dict[str, Any]]] = {
    "/v0/task/restart": {"name": "peers"},
    "/v0/name/resolve": {"name": "loom.example"},
    "/v0/transport/enable": {"name": "ip4"},
    "/v0/transport/disable": {"name": "ip6"},
}
"""Where a name means something else than elsewhere."""


@cache
def document() -> bytes:
    """The description, as JSON."""
    return json.dumps(describe(), ensure_ascii=False).encode()


def describe() -> dict[str, Any]:
    """The description."""
    structs = _structs()
    refs, components = msgspec.json.schema_components(structs, ref_template=_REF)
    schemas = dict(zip(structs, refs, strict=True))
    for struct in _with_inner(structs):
        _add_field_texts(struct, components)
    paths: dict[str, dict[str, Any]] = {}
    rows: tuple[Row, ...] = (*ROUTES, *STREAMS, *CHANNELS, *DOCUMENTS)
    for row in rows:
        paths.setdefault(row.path, {})[row.method.lower()] = _operation(row, schemas, components)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "weft",
            "version": __version__,
            "description": _ABOUT,
            "license": {"name": "MIT", "identifier": "MIT"},
        },
        "servers": [{"url": "http://localhost", "description": "By way of the Unix socket, or of `[api] listen`"}],
        "security": [{}, {"token": []}],
        "tags": [{"name": tag} for tag in sorted({_tag(row) for row in rows})],
        "paths": paths,
        "components": {
            "schemas": components,
            "securitySchemes": {
                "token": {
                    "type": "http",
                    "scheme": "bearer",
                    "description": "The content of the token file. Only over TCP; the Unix socket asks for none.",
                }
            },
        },
    }


def _structs() -> list[type[msgspec.Struct]]:
    rows: tuple[Row, ...] = (*ROUTES, *STREAMS)
    parameters = [row.parameters for row in rows]
    replies = [route.result for route in ROUTES] + [stream.item for stream in STREAMS]
    return list(dict.fromkeys([*parameters, *replies, Problem]))


def _operation(row: Row, schemas: dict[type, dict[str, Any]], components: dict[str, Any]) -> dict[str, Any]:
    operation: dict[str, Any] = {
        "operationId": row.path.removeprefix("/v0").strip("/").replace("/", "-"),
        "summary": row.summary,
        "tags": [_tag(row)],
        "responses": {"101" if isinstance(row, Channel) else "200": _reply(row, schemas)}
        | {str(status): _problem(status, schemas) for status in _statuses(row)},
    }
    if row.parameters is Nothing:
        return operation
    example = example_of(row)
    if row.method == "GET":
        operation["parameters"] = _query(components[row.parameters.__name__], example)
        return operation
    content = {"schema": schemas[row.parameters], "example": example}
    operation["requestBody"] = {"required": bool(example), "content": {"application/json": content}}
    return operation


def example_of(row: Row) -> dict[str, Any]:
    """What must be given to a row, as a person would give it, and in a query also what may be."""
    known = FIELDS | FIELDS_OF.get(row.path, {})
    fields = msgspec.structs.fields(row.parameters)
    shown = [field.name for field in fields if field.required or row.method == "GET"]
    return {name: known[name] for name in shown if name in known}


def _tag(row: Row) -> str:
    parts = row.path.strip("/").split("/")
    return parts[1] if len(parts) > 2 else "node"


def _statuses(row: Row) -> list[int]:
    statuses = _LOOKS | _TCP
    if row.parameters is not Nothing or row.method == "POST":
        statuses |= _PARAMETERS
    if row.method == "POST" or isinstance(row, Stream):
        statuses |= _CHANGES
    if isinstance(row, Channel):
        statuses |= {403, 426, 503}
    return sorted(statuses)


def _query(schema: dict[str, Any], example: dict[str, Any]) -> list[dict[str, Any]]:
    """A struct as parameters of the query."""
    parameters = []
    for name, kind in schema["properties"].items():
        parameter = {"name": name, "in": "query", "required": name in schema.get("required", []), "schema": kind}
        if "description" in kind:
            parameter["description"] = kind["description"]
        if name in example:
            parameter["example"] = example[name]
        parameters.append(parameter)
    return parameters


def _reply(row: Row, schemas: dict[type, dict[str, Any]]) -> dict[str, Any]:
    if isinstance(row, Route):
        return {"description": "Done", "content": {"application/json": {"schema": schemas[row.result]}}}
    if isinstance(row, Document):
        return {
            "description": "The document",
            "content": {
                kind: {"schema": {"type": "object" if "json" in kind else "string"}} for kind in row.content_types
            },
        }
    if isinstance(row, Channel):
        return {"description": f"From here on both sides speak `{row.protocol}`"}
    text = f"Events until either side ends it; one that is called `{PROBLEM}` holds a problem document and is the last."
    data = {"type": "string", "contentMediaType": "application/json", "contentSchema": schemas[row.item]}
    # As OpenAPI 3.2 has it, for which 3.1 has no place of its own: of each event, field by field.
    event = {"type": "object", "properties": {"event": {"type": "string"}, "data": data}, "required": ["data"]}
    return {"description": text, "content": {EVENT_STREAM: {"schema": event}}}


def _problem(status: int, schemas: dict[type, dict[str, Any]]) -> dict[str, Any]:
    titles = sorted({kind.title for kind in KINDS if kind.status == status})
    reply: dict[str, Any] = {
        "description": "; ".join([TITLES[status], *titles] if status in TITLES else titles),
        "content": {CONTENT_TYPE: {"schema": schemas[Problem]}},
    }
    if status == 401:
        reply["headers"] = {"WWW-Authenticate": {"schema": {"type": "string"}}}
    return reply


def _with_inner(structs: list[type[msgspec.Struct]]) -> set[type[msgspec.Struct]]:
    """The structs, and those that their fields are made of."""
    found: set[type[msgspec.Struct]] = set()
    waiting = list(msgspec.inspect.multi_type_info(structs))
    while waiting:
        kind = waiting.pop()
        if isinstance(kind, msgspec.inspect.StructType) and kind.cls not in found:
            found.add(kind.cls)
            waiting += [field.type for field in kind.fields]
        for name in ("type", "item_type", "value_type"):
            waiting += [inner] if isinstance(inner := getattr(kind, name, None), msgspec.inspect.Type) else []
        waiting += getattr(kind, "types", ()) + getattr(kind, "item_types", ())
    return found


def _add_field_texts(struct: type[msgspec.Struct], components: dict[str, Any]) -> None:
    properties = components[struct.__name__]["properties"]
    for base in struct.__mro__:
        if issubclass(base, msgspec.Struct) and base is not msgspec.Struct:
            for name, text in _field_texts(base).items():
                properties[name].setdefault("description", text)


def _field_texts(struct: type[msgspec.Struct]) -> dict[str, str]:
    """The text below each field of a struct, from its source."""
    try:
        (body,) = ast.parse(textwrap.dedent(inspect.getsource(struct))).body
    except OSError:
        return {}
    assert isinstance(body, ast.ClassDef)
    texts = {}
    for field, text in zip(body.body, body.body[1:], strict=False):
        match field, text:
            case ast.AnnAssign(target=ast.Name(name)), ast.Expr(ast.Constant(str(words))):
                texts[name] = " ".join(words.split())
    return texts
