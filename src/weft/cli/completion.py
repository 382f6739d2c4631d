"""`weft completion`: what a shell has to know to complete the command."""

from __future__ import annotations

import click

from weft.cli.command import Command


@click.command(
    cls=Command,
    examples=(
        "weft completion bash > /etc/bash_completion.d/weft",
        'weft completion zsh > "${fpath[1]}/_weft"',
        "weft completion fish > ~/.config/fish/completions/weft.fish",
    ),
)
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
@click.pass_context
def completion(context: click.Context, shell: str) -> None:
    """Print the completion script for SHELL."""
    from click.shell_completion import get_completion_class

    kind = get_completion_class(shell)
    assert kind is not None
    click.echo(kind(context.find_root().command, {}, "weft", "_WEFT_COMPLETE").source())
