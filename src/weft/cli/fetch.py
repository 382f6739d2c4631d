"""`weft fetch`: a file over HTTP, out of the network."""

from __future__ import annotations

import codecs
import io
import re
import ssl
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

import click
import msgspec

from weft.cli.attached import attached, inside
from weft.cli.command import Command
from weft.cli.progress import progress
from weft.cli.settings import Settings, pass_settings
from weft.cli.show import size, text_for_terminal
from weft.cli.tls_options import TlsOptions, tls_options
from weft.clients.extras import extra
from weft.clients.http.partial import Partial, Pipe
from weft.errors import UsageError

if TYPE_CHECKING:
    from weft.clients.http.partial import Sink

STDOUT = "-"
_SIZE = re.compile(r"(\d{1,15}) ?([kmgt]?)(?:i?b)?", re.IGNORECASE)


class Fetched(msgspec.Struct, frozen=True, kw_only=True):
    """What `weft fetch --json` prints."""

    schema: int = 1
    url: str
    """Where it was, after all redirects."""
    file: str
    size_bytes: int
    resumed_from_bytes: int
    """What was there already of an attempt before; 0 if all of it came now."""
    duration_s: float


class Header(click.ParamType[tuple[str, str]]):
    """A header of a request; in the variable of the environment each stands on a line of its own."""

    name = "header"
    envvar_list_splitter = "\n"

    def convert(
        self, value: str | tuple[str, str], param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[str, str]:
        """Take it apart."""
        if isinstance(value, tuple):
            return value
        name, colon, text = value.partition(":")
        if not colon or not name.strip():
            self.fail(f"{value!r} is not NAME: VALUE", param, ctx)
        return name.strip(), text.strip()


class Size(click.ParamType[int]):
    """A number of bytes, or of KiB, MiB, GiB or TiB by the first letter."""

    name = "size"

    def convert(self, value: str | int, param: click.Parameter | None, ctx: click.Context | None) -> int:
        """Count them."""
        if isinstance(value, int):
            return value
        found = _SIZE.fullmatch(value.strip())
        if found is None:
            self.fail(f"{value!r} is no size, such as 500M", param, ctx)
        return int(found[1]) << 10 * " kmgt".index(found[2].lower() or " ")


@click.command(
    cls=Command,
    result=Fetched,
    examples=(
        "weft fetch http://loom/notes.txt",
        "weft fetch http://loom/disk.img -o disk.img",
        "weft fetch https://loom:8443/report.pdf -o report.pdf --ca loom.pem --header 'Authorization: Bearer t0ken'",
        "weft fetch http://loom/disk.img -o disk.img --json | jq .size_bytes",
    ),
)
@click.argument("url")
@click.option("-o", "--output", metavar="FILE", default=STDOUT, help="Where to; - is standard output, and the default.")
@click.option(
    "-H", "--header", "headers", type=Header(), multiple=True, metavar="'NAME: VALUE'", help="A header of the request."
)
@click.option("--max-size", type=Size(), metavar="SIZE", help="Take no more than this, such as 500M.")
@tls_options
@click.option("-k", "--insecure", is_flag=True, help="Take any certificate; inside the network the tunnel vouches.")
@pass_settings
def fetch(
    settings: Settings,
    url: str,
    output: str,
    headers: tuple[tuple[str, str], ...],
    max_size: int | None,
    tls: TlsOptions,
    *,
    insecure: bool,
) -> None:
    """Fetch URL with HTTP, and write it to FILE.

    The host of URL is a peer, an address or a name. Redirects are followed within the network, and never from https to
    http.

    FILE is there when it is whole; until then FILE.weft-part is, and what breaks off goes on from there: by itself, and
    with the same command later. A terminal gets text, and nothing that would move its cursor.

    It ends before the disk is full, and takes no more than --max-size, whatever the server says of the size.

    The exit code is 1 if the server has no such thing, or it can't be reached, or there is too much of it.
    """
    import asyncio

    if settings.json and output == STDOUT:
        raise click.UsageError("--json tells about the file that -o names")
    asked = url if "://" in url else f"http://{url}"
    if asked.partition("://")[0].lower() not in {"http", "https"}:
        raise UsageError(f"{url}: only http and https are spoken here")
    began = time.monotonic()
    with _sink(output, asked) as sink:
        where = asyncio.run(_fetch(settings, asked, sink, headers, max_size, tls, verify=not insecure))
        if not isinstance(sink, Partial):
            return
        sink.finish()
    fetched = Fetched(
        url=where,
        file=output,
        size_bytes=sink.size_bytes,
        resumed_from_bytes=sink.resumed_from_bytes,
        duration_s=round(time.monotonic() - began, 3),
    )
    if settings.json:
        click.echo(msgspec.json.encode(fetched))
    else:
        _show(fetched)


async def _fetch(
    settings: Settings,
    url: str,
    sink: Sink,
    headers: Sequence[tuple[str, str]],
    max_bytes: int | None,
    tls: TlsOptions,
    *,
    verify: bool,
) -> str:
    with extra("http"):
        from weft.clients.http.client import http_client
        from weft.clients.http.fetch import FetchError, TooLargeError, fetch
        from weft.clients.http.redirects import Fence, shown

    async with attached(settings) as network:
        fence = Fence(network, lambda: inside(network), url)
        async with http_client(fence, verify=tls.context(verify=verify)) as client:
            # Its line would be in the way of the text.
            what = None if isinstance(sink, _Terminal) else url.rstrip("/").rpartition("/")[2]
            with progress(what) as told:
                try:
                    return shown(await fetch(client, url, sink, headers=headers, max_bytes=max_bytes, told=told))
                except TooLargeError:
                    raise
                except FetchError as error:
                    hint = _hint(error, sink)
                    raise FetchError(f"{error}; {hint}" if hint else str(error)) from error
                except OSError as error:
                    if (hint := _hint(error, sink)) and error.strerror:
                        error.strerror += f"; {hint}"
                    raise


def _hint(error: BaseException, sink: Sink) -> str:
    """What to do about a failure, if there is anything."""
    if isinstance(sink, Partial) and sink.is_kept:
        return "the same command goes on from there"
    cause: BaseException | None = error
    while cause is not None and not isinstance(cause, ssl.SSLCertVerificationError):
        cause = cause.__cause__ or cause.__context__
    return "`weft tls` shows it" if cause is not None else ""


class _Terminal(Pipe):
    """A terminal, which shows text, and of that nothing which would do more than be seen."""

    def __init__(self, file: BinaryIO, source: str) -> None:
        super().__init__(file, source)
        letters = codecs.getincrementaldecoder("utf-8")("replace")
        self._decoder = io.IncrementalNewlineDecoder(letters, translate=True)

    def write(self, data: bytes) -> None:
        if b"\0" in data:
            raise UsageError("this is no text; give a file with -o")
        before = self.size_bytes
        super().write(text_for_terminal(self._decoder.decode(data)).encode())
        self.size_bytes = before + len(data)


def _sink(output: str, url: str) -> AbstractContextManager[Sink]:
    if output == STDOUT:
        kind = _Terminal if sys.stdout.isatty() else Pipe
        return nullcontext(kind(sys.stdout.buffer, url))
    path = Path(output)
    if path.is_dir():
        raise UsageError(f"{output} is a directory; give the name of a file")
    if path.exists() and not path.is_file():
        # A device or a pipe.
        return _opened(path, url)
    return Partial(path, url)


@contextmanager
def _opened(path: Path, url: str) -> Iterator[Sink]:
    with path.open("wb") as file:
        yield Pipe(file, url)


def _show(fetched: Fetched) -> None:
    came = fetched.size_bytes - fetched.resumed_from_bytes
    before = f", {size(fetched.resumed_from_bytes)} of it before" if fetched.resumed_from_bytes else ""
    rate = f", {size(int(came / fetched.duration_s))}/s" if fetched.duration_s else ""
    click.echo(f"{fetched.file}: {size(fetched.size_bytes)}{before} in {fetched.duration_s:.1f} s{rate}")
