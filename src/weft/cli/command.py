"""What all commands share: options and their variables, examples, the type of their JSON, lazy loading, suggestions."""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Mapping, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

import click
from click.core import ParameterSource
from msgspec import Struct

from weft.api.v0.route import Route, Stream
from weft.cli.settings import Settings


def _take(context: click.Context, parameter: click.Parameter, value: Any) -> None:
    # The environment counts once, at the root, so that it never overrides an option given before the command.
    source = context.get_parameter_source(parameter.name or "")
    if source is ParameterSource.COMMANDLINE or (source is ParameterSource.ENVIRONMENT and context.parent is None):
        setattr(
            context.ensure_object(Settings),
            parameter.name or "",
            value.expanduser() if isinstance(value, Path) else value,
        )


EVERYWHERE = (
    click.Option(
        ["--dir", "directory"],
        type=click.Path(path_type=Path, file_okay=False),
        envvar="WEFT_DIR",
        show_envvar=True,
        expose_value=False,
        callback=_take,
        help="Directory of the node: its key, configuration and socket.",
    ),
    click.Option(
        ["--socket", "socket"],
        type=click.Path(path_type=Path),
        envvar="WEFT_SOCKET",
        show_envvar=True,
        expose_value=False,
        callback=_take,
        help="Socket of the daemon, if it is not in the directory.",
    ),
    click.Option(
        ["--json", "json"],
        is_flag=True,
        envvar="WEFT_JSON",
        show_envvar=True,
        expose_value=False,
        callback=_take,
        help="Print JSON, as the daemon's API gives it.",
    ),
)


class Command(click.Command):
    """A command that takes the options of `EVERYWHERE`, and shows how it is used.

    Each option obeys a variable of the environment as well, which is named after the way to it: `weft ping --count` is
    `WEFT_PING_COUNT`.

    Args:
        examples: command lines for the end of its help.
        result: what each line is that it prints with `--json`: a type, or the route or stream that gives it. None for
            a command that prints no JSON.
    """

    def __init__(
        self,
        *args: Any,
        examples: Sequence[str] = (),
        result: type[Struct] | Route[Any, Any] | Stream[Any, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(*args, **kwargs)
        for parameter in self.params:
            if isinstance(parameter.type, click.IntRange) and parameter.metavar is None:
                parameter.metavar = "NUMBER"
        # What a command has of its own goes before it; `weft --dir …` says there which node is meant.
        own = {word for parameter in self.params for word in parameter.opts}
        self.params += [option for option in EVERYWHERE if own.isdisjoint(option.opts)]
        self.examples = examples
        match result:
            case Route():
                self.result: type[Struct] | None = result.result
            case Stream():
                self.result = result.item
            case _:
                self.result = result

    def make_context(
        self, info_name: str | None, args: list[str], parent: click.Context | None = None, **extra: Any
    ) -> click.Context:
        """As click does it, after each option has got its variable."""
        if parent is not None:
            way = f"{parent.command_path} {info_name}"
            for parameter in self.params:
                if isinstance(parameter, click.Option) and parameter.envvar is None:
                    parameter.envvar, parameter.show_envvar = variable(way, parameter), True
        return super().make_context(info_name, args, parent, **extra)

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the examples as they are to be typed."""
        with formatter.section("Examples"):
            formatter.write("".join(f"  {line}\n" for line in self.examples))


def variable(way: str, option: click.Option) -> str:
    """The variable of the environment that an option obeys.

    Args:
        way: the command as it is typed: `weft ping`.
        option: one of its options.
    """
    longest = max(option.opts, key=len)
    return "_".join((way + " " + longest.lstrip("-")).upper().replace("-", "_").split())


class Group(Command, click.Group):
    """A group that loads commands when they are used, and suggests near ones.

    Args:
        lazy: the commands of the group in the order in which they are listed; name to `module:attribute`.
    """

    command_class = Command

    def __init__(self, *args: Any, lazy: Mapping[str, str] | None = None, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.lazy = lazy or {}

    def list_commands(self, ctx: click.Context) -> list[str]:
        """All commands, in the order of the code and then of the table."""
        return [*self.commands, *self.lazy]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """The command of that name, loaded if it was not yet."""
        if cmd_name in self.lazy:
            module, _, attribute = self.lazy[cmd_name].partition(":")
            command: click.Command = getattr(import_module(module), attribute)
            return command
        return super().get_command(ctx, cmd_name)

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """As click does it, but an unknown command names the near one."""
        name = args[0]
        if not ctx.resilient_parsing and not name.startswith("-") and self.get_command(ctx, name) is None:
            near = difflib.get_close_matches(name, self.list_commands(ctx), 1)
            hint = f", did you mean `{ctx.command_path} {near[0]}`?" if near else ""
            raise click.UsageError(f"no command `{ctx.command_path} {name}`{hint}", ctx)
        return super().resolve_command(ctx, args)


def every_command(command: click.Command, way: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], click.Command]]:
    """Each command below and including one, with the words that lead to it, in the order of the help."""
    yield way, command
    if isinstance(command, click.Group):
        context = click.Context(command)
        for name in command.list_commands(context):
            inner = command.get_command(context, name)
            assert inner is not None
            yield from every_command(inner, (*way, name))
