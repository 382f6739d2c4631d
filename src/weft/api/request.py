"""From an HTTP request to a row of the route table and its parameters, or to the document that refuses it.

What only looks is a GET, whose parameters are in the query; what changes something is a POST, whose parameters are a
JSON object in the body. Both are decoded into the same kind of struct, and whatever does not fit is refused.
"""

from __future__ import annotations

import asyncio
import logging
import traceback
from functools import cache
from typing import Any, Final
from urllib.parse import parse_qs

import msgspec
from aiohttp import web

from weft.api.problem import Problem, problem_of
from weft.api.v0.route import Channel, Document, Route, Stream
from weft.api.v0.table import CHANNELS, DOCUMENTS, ROUTES, STREAMS
from weft.errors import WeftError

MAX_BODY_BYTES: Final = 1 << 20
"""A thousand peers fit."""
MAX_QUERY_FIELDS: Final = 64

Row = Route[Any, Any] | Stream[Any, Any] | Channel | Document

TITLES: Final = {
    400: "Bad Request",
    401: "Unauthorized",
    403: "Forbidden",
    404: "Not Found",
    405: "Method Not Allowed",
    408: "Request Timeout",
    413: "Content Too Large",
    415: "Unsupported Media Type",
    421: "Misdirected Request",
    422: "Unprocessable Content",
    426: "Upgrade Required",
    429: "Too Many Requests",
    500: "Internal Server Error",
    503: "Service Unavailable",
}

log = logging.getLogger(__name__)

_ROWS: tuple[Row, ...] = (*ROUTES, *STREAMS, *CHANNELS, *DOCUMENTS)
_BY_PATH: dict[str, dict[str, Row]] = {}
for _row in _ROWS:
    _BY_PATH.setdefault(_row.path, {})[_row.method] = _row


class Refused(Exception):  # noqa: N818 - an answer on its way, not a fault
    """A request ends here, with this document."""

    def __init__(self, problem: Problem, headers: dict[str, str] | None = None) -> None:
        super().__init__(problem.detail)
        self.problem = problem
        self.headers = headers or {}


def refuse(status: int, detail: str, headers: dict[str, str] | None = None) -> Refused:
    """The refusal of a request as such, before or beside what a route does.

    Args:
        status: one of `TITLES`.
        detail: one line for a person.
        headers: that go with it.
    """
    return Refused(Problem(type="about:blank", title=TITLES[status], status=status, detail=detail), headers)


FAILED: Final = refuse(500, "the daemon failed at this; its log says where").problem


def explain(row: Row, error: Exception) -> Problem:
    """The document for what a handler raised; what no node raises on purpose is logged."""
    problem = problem_of(error)
    if problem is None or type(error) is WeftError:
        # The message of a foreign exception may quote a key, so only its class and the places are logged.
        places = "".join(traceback.format_tb(error.__traceback__)).rstrip()
        log.error("%s %s failed with %s\n%s", row.method, row.path, type(error).__name__, places)
    return problem or FAILED


def find_row(request: web.BaseRequest) -> Row:
    """The row of the table that a request is for.

    Raises:
        Refused: there is none.
    """
    path = request.raw_path.partition("?")[0]
    methods = _BY_PATH.get(path)
    if methods is None:
        raise refuse(404, "there is nothing at this path; see /v0/openapi.json for what there is")
    row = methods.get(request.method)
    if row is None:
        allowed = ", ".join(methods)
        raise refuse(405, f"{path} takes {allowed}", {"Allow": allowed})
    return row


async def read_parameters(row: Row, request: web.BaseRequest, patience_s: float) -> msgspec.Struct:
    """The parameters that came with a request.

    Raises:
        Refused: they are not what the row takes, too many, or too slow.
    """
    body = await _read_body(request, patience_s) if request.body_exists else b""
    query = request.raw_path.partition("?")[2]
    if row.method == "GET":
        if body:
            raise refuse(400, f"{row.path} takes no body; parameters go into the query")
        return _from_query(row, query)
    if query:
        raise refuse(400, f"{row.path} takes no query; parameters go into the body as a JSON object")
    return _from_body(row, request, body)


async def _read_body(request: web.BaseRequest, patience_s: float) -> bytes:
    body = bytearray()
    try:
        async with asyncio.timeout(patience_s):
            async for chunk in request.content.iter_any():
                body += chunk
                if len(body) > MAX_BODY_BYTES:
                    raise refuse(413, f"the body may have {MAX_BODY_BYTES} bytes")
    except TimeoutError:
        raise refuse(408, f"the rest of the body did not come within {patience_s:g} s") from None
    except (web.RequestPayloadError, ConnectionError):
        raise refuse(400, "the body is not framed as its header says") from None
    return bytes(body)


def _from_body(row: Row, request: web.BaseRequest, body: bytes) -> msgspec.Struct:
    if not body:
        body = b"{}"
    elif request.content_type != "application/json":
        raise refuse(415, f"{row.path} takes a body of type application/json")
    try:
        parameters: msgspec.Struct = msgspec.json.decode(body, type=row.parameters)
    except msgspec.ValidationError as error:
        raise refuse(422, f"{row.path}: {error}") from None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise refuse(400, f"the body is not JSON: {error}") from None
    return parameters


def _from_query(row: Row, query: str) -> msgspec.Struct:
    kind: type[msgspec.Struct] = row.parameters
    lists = _list_fields(kind)
    if query and not lists:
        raise refuse(400, f"{row.path} takes no query")
    try:
        values = parse_qs(
            query, keep_blank_values=True, strict_parsing=bool(query), errors="strict", max_num_fields=MAX_QUERY_FIELDS
        )
    except ValueError:
        raise refuse(400, f"the query of {row.path} is not of the form name=value&name=value in UTF-8") from None
    fields: dict[str, object] = {}
    for name, given in values.items():
        if lists.get(name):
            fields[name] = given
        elif len(given) > 1:
            raise refuse(422, f"{row.path}: `{name}` is given {len(given)} times")
        else:
            fields[name] = given[0]
    try:
        # Not strict as to types, for a query has only text.
        parameters: msgspec.Struct = msgspec.convert(fields, type=kind, strict=False)
    except msgspec.ValidationError as error:
        raise refuse(422, f"{row.path}: {error}") from None
    return parameters


@cache
def _list_fields(parameters: type[msgspec.Struct]) -> dict[str, bool]:
    """Of each field of a parameter struct, whether it may be given several times."""
    from msgspec import inspect

    info = inspect.type_info(parameters)
    assert isinstance(info, inspect.StructType)
    repeated = (inspect.ListType, inspect.SetType, inspect.FrozenSetType, inspect.VarTupleType)

    def is_list(kind: inspect.Type) -> bool:
        if isinstance(kind, inspect.Metadata):
            return is_list(kind.type)
        if isinstance(kind, inspect.UnionType):
            return any(is_list(each) for each in kind.types)
        return isinstance(kind, repeated)

    return {field.encode_name: is_list(field.type) for field in info.fields}
