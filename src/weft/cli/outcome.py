"""How a command ends: one clear line on stderr if it failed, and the exit code."""

from __future__ import annotations

import os
import sys
import traceback
from collections.abc import Sequence

import click
from click.core import ParameterSource

from weft.errors import UsageError, WeftError

OK, FAILED, WRONG_USAGE, INTERRUPTED = 0, 1, 2, 130


def run(command: click.Command, args: Sequence[str] | None) -> int:
    """Run a command; whatever happens, no traceback reaches the person."""
    _open_closed_streams()
    try:
        outcome = command.main(args, prog_name="weft", standalone_mode=False)
        sys.stdout.flush()
    except BrokenPipeError:
        # Whoever read our output has gone; the interpreter must not complain when it flushes at its end.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return FAILED
    except Exception as error:
        # A second Ctrl-C breaks what ends because of the first, and then it is that which fails.
        return report(click.Abort() if isinstance(error.__context__, KeyboardInterrupt) else error)
    return outcome if isinstance(outcome, int) else OK


def _open_closed_streams() -> None:
    """Put the null device where a standard stream was closed, so that no file or socket gets its number."""
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            setattr(sys, name, os.fdopen(os.open(os.devnull, os.O_RDWR), mode))


def report(error: Exception) -> int:
    """Say on stderr what went wrong.

    Returns:
        The exit code for it.
    """
    match error:
        case click.exceptions.NoArgsIsHelpError():
            error.show()
            return WRONG_USAGE
        case click.UsageError():
            where = error.ctx.command_path if error.ctx else "weft"
            say(f"{_in_our_words(error, where)}; see `{where} --help`")
            return WRONG_USAGE
        case click.Abort():
            say("interrupted")
            return INTERRUPTED
        case UsageError():
            say(str(error))
            return WRONG_USAGE
        case UnicodeError():
            say("something given or to be shown is no text in this terminal's encoding")
            return WRONG_USAGE
        case WeftError() | click.ClickException() | TimeoutError():
            say(str(error))
        case OSError():
            reason = error.strerror or str(error)
            say(f"{error.filename}: {reason}" if error.filename else reason)
        case _:
            place = traceback.extract_tb(error.__traceback__)[-1]
            say(f"this is a bug, please report it: {type(error).__name__} at {place.filename}:{place.lineno}")
    return FAILED


def _in_our_words(error: click.UsageError, where: str) -> str:
    """What was wrong with the words that were given, without the parser's terms."""
    match error:
        case click.NoSuchOption():
            near = f", did you mean `{error.possibilities[0]}`?" if error.possibilities else ""
            return f"no option `{error.option_name}` of `{where}`{near}"
        case click.MissingParameter(param=click.Parameter() as parameter):
            return f"`{where}` needs {_name(parameter, error.ctx)}"
        case click.BadParameter(param=click.Parameter() as parameter):
            text = f"{_name(parameter, error.ctx)}: {error.message}"
        case click.BadOptionUsage():
            text = error.message.replace(f"Option {error.option_name!r}", error.option_name, 1)
        case _:
            text = error.format_message()
            text = text[:1].lower() + text[1:]
    return text.rstrip(".")


def _name(parameter: click.Parameter, context: click.Context | None) -> str:
    """A parameter as the person gave it: by an option, a variable, or a place on the line."""
    if not isinstance(parameter, click.Option):
        return parameter.make_metavar(context) if context else parameter.human_readable_name
    given_as = context.get_parameter_source(parameter.name or "") if context else None
    return str(parameter.envvar) if given_as is ParameterSource.ENVIRONMENT else max(parameter.opts, key=len)


def say(text: str) -> None:
    """Write one line to stderr, whatever is in the text."""
    line = "".join(letter if letter.isprintable() else " " for letter in text)
    click.echo(f"weft: {' '.join(line.split())}", err=True)
