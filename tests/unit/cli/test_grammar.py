"""What every command shares: options, environment, help, errors of usage, completion."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import click
import pytest

import weft as package
from tests.unit.api.fake_engine import FakeEngine
from tests.unit.cli.examples import typed
from tests.unit.cli.terminal import Terminal
from weft.cli import main, show
from weft.cli.command import EVERYWHERE, every_command, variable
from weft.cli.fetch import Size
from weft.cli.outcome import report, run
from weft.cli.root import weft as root

ALL = list(every_command(root))
RAW = {"completion", "daemon"}
"""What prints no JSON."""


@pytest.mark.parametrize("path", [path for path, _ in ALL], ids=" ".join)
def test_help_has_examples_that_parse_and_the_common_options(weft: Terminal, path: tuple[str, ...]) -> None:
    seen = weft.bare(*path, "--help")
    assert seen.code == 0
    for word in ("--dir", "--socket", "--json", "WEFT_DIR", "WEFT_SOCKET", "WEFT_JSON", "Examples:"):
        assert word in seen.out
    shown = seen.out[seen.out.index("Examples:") :].splitlines()[1:]
    examples = [words for line in shown for words in typed(line)]
    assert examples
    for words in examples:
        command: click.Command = root
        context = click.Context(root)
        while isinstance(command, click.Group) and words:
            if words[0] == "--dir":
                del words[:2]
            inner = command.get_command(context, words.pop(0))
            assert inner is not None, shown
            command = inner
        command.make_context("weft", words)


def sample(option: click.Option, tmp_path: Path) -> str:
    """A value that an option takes and that is not its default."""
    match option.type:
        case _ if option.is_flag:
            return "1"
        case click.Choice(choices=choices):
            return next(str(choice) for choice in choices if choice != option.default)
        case click.IntRange() | click.FloatRange():
            return "7"
        case click.types.IntParamType() | click.types.FloatParamType():
            return "7"
        case Size():
            return "7M"
        case click.Path():
            return str(tmp_path / "given") if option.type.file_okay else str(tmp_path)
        case _:
            return "given"


OPTIONS = [
    (way, command, option)
    for way, command in ALL
    for option in command.params
    if isinstance(option, click.Option) and not option.is_eager and option not in EVERYWHERE
]


@pytest.mark.parametrize(
    ("way", "command", "option"), OPTIONS, ids=[" ".join(("weft", *way, option.opts[-1])) for way, _, option in OPTIONS]
)
def test_option_obeys_its_variable(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    *,
    way: tuple[str, ...],
    command: click.Command,
    option: click.Option,
) -> None:
    (tmp_path / "given").touch()
    parent = click.Context(root, info_name=" ".join(("weft", *way[:-1])))
    value = sample(option, tmp_path)
    given = [max(option.opts, key=len)] + ([] if option.is_flag else [value])
    assert isinstance(option.name, str)

    def parsed(*args: str) -> object:
        return command.make_context(way[-1], list(args), parent, resilient_parsing=True).params[option.name]

    by_option, unset = parsed(*given), parsed()
    name = variable(" ".join(("weft", *way)), option)
    monkeypatch.setenv(name, value)
    assert parsed() == by_option != unset
    assert name in command.get_help(command.make_context(way[-1], [], parent, resilient_parsing=True))


def test_wrong_variable_is_named(weft: Terminal, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WEFT_PING_COUNT", "many")
    seen = weft("ping", "loom")
    assert (seen.code, seen.out) == (2, "")
    assert seen.err.startswith("weft: WEFT_PING_COUNT: 'many' is not a valid integer")


def test_help_says_what_exit_codes_mean(weft: Terminal) -> None:
    told = " ".join(weft.bare("--help").out.split())
    assert "exit code is 0 if it was done, 1 if that failed, 2 if it was asked wrongly, 130 if it was interrupt" in told


def test_group_lists_each_command_with_a_whole_line_of_its_own(weft: Terminal, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    for way, command in ALL:
        if isinstance(command, click.Group):
            told = re.split(r"--help +Show this message and exit.\n", weft.bare(*way, "--help").out)[1]
            listed = [line for line in told.split("Examples:")[0].splitlines() if line.startswith("  ")]
            assert [line.split()[0] for line in listed] == command.list_commands(click.Context(command))
            assert all(len(line.split()) > 2 and line.endswith(".") and line[-3:] != "..." for line in listed), way


def test_no_command_loads_what_only_a_daemon_needs() -> None:
    program = (
        "import sys; from weft.cli.command import every_command; from weft.cli.root import weft;"
        "list(every_command(weft));"
        "heavy = ('aiohttp', 'asyncio', 'cryptography', 'pyroute2', 'rich', 'weft.engine.config', 'weft.io.udp');"
        "print([name for name in heavy if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


def test_help_loads_no_command() -> None:
    program = (
        "import sys; from weft.cli import main; main(['--help']);"
        "print([name for name in ('weft.cli.status', 'weft.engine.config', 'rich', 'asyncio') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.endswith("\n[]\n")


def test_version_is_told(weft: Terminal) -> None:
    assert weft.bare("--version").out == f"weft {package.__version__}\n"


@pytest.mark.parametrize(
    ("args", "says"),
    [
        (("stauts",), "no command `weft stauts`, did you mean `weft status`?; see `weft --help`"),
        (("peer", "conect"), "no command `weft peer conect`, did you mean `weft peer connect`?"),
        (("xyzzy",), "no command `weft xyzzy`; see `weft --help`"),
        (("info", "more"), "got unexpected extra argument (more); see `weft info --help`"),
        (("peer", "connect"), "`weft peer connect` needs MULTIADDR|PEER; see `weft peer connect --help`"),
        (("fc00", "allow"), "`weft fc00 allow` needs RULE...;"),
        (("peer", "add-wireguard", "k", "--name", "n"), "`weft peer add-wireguard` needs --allowed-ips;"),
        (("peer", "add-wireguard", "k", "--name", "n", "--allowed-ips", ","), "--allowed-ips needs a prefix"),
        (("ping", "x", "-c", "0"), "--count: 0 is not in the range x>=1;"),
        (("info", "--jsn"), "no option `--jsn` of `weft info`, did you mean `--json`?"),
        (("peer", "--xyzzy"), "no option `--xyzzy` of `weft peer`; see `weft peer --help`"),
        (("info", "--json=1"), "--json does not take a value;"),
        (("--dir",), "--dir requires an argument; see `weft --help`"),
        (("completion", "tcsh"), "'tcsh' is not one of 'bash', 'zsh', 'fish';"),
    ],
)
def test_wrong_usage_is_one_line_and_exit_2(weft: Terminal, args: tuple[str, ...], says: str) -> None:
    seen = weft.bare(*args)
    assert (seen.code, seen.out) == (2, "")
    assert seen.err.startswith("weft: ")
    assert says in seen.err
    assert seen.err.count("\n") == 1


@pytest.mark.parametrize("group", [(), ("peer",), ("fc00",), ("task",)])
def test_group_without_a_command_shows_its_help(weft: Terminal, group: tuple[str, ...]) -> None:
    seen = weft.bare(*group)
    assert seen.code == 2
    assert re.search("^(Commands|Peers):$", seen.err, re.MULTILINE)


def test_environment_is_used_and_options_win_wherever_they_stand(
    weft: Terminal, node: FakeEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WEFT_DIR", str(weft.directory))
    monkeypatch.setenv("WEFT_JSON", "1")
    assert json.loads(weft.bare("info").out)["schema"] == 1
    monkeypatch.setenv("WEFT_DIR", "/nowhere")
    for args in (("--dir", str(weft.directory), "info"), ("info", "--dir", str(weft.directory))):
        assert weft.bare(*args).code == 0
    assert "/nowhere/api.sock" in weft.bare("info").err
    monkeypatch.setenv("WEFT_SOCKET", str(weft.socket))
    assert weft.bare("peer", "list").code == 0
    assert "/other" in weft.bare("--socket", "/other", "peer", "list").err
    assert "/other" in weft.bare("peer", "--socket", "/other", "list").err
    assert "/other" in weft.bare("--socket", "/x", "peer", "list", "--socket", "/other").err


@pytest.mark.parametrize(
    ("environment", "terminal", "colored"), [({}, True, True), ({"NO_COLOR": "1"}, True, False), ({}, False, False)]
)
def test_colour_is_for_terminals_and_not_against_no_color(
    environment: dict[str, str],
    terminal: bool,
    colored: bool,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setenv("TERM", "xterm")
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(sys.stdout, "isatty", lambda: terminal, raising=False)
    show.table([(show.state("up", "direct"), "x"), (show.state("connecting"), "y")])
    out = capsys.readouterr().out
    assert ("\x1b[" in out) == colored
    assert click.unstyle(out) == "up direct   x\nconnecting  y\n"


def test_person_at_a_terminal_is_told_what_takes_long(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(show, "PATIENCE_S", 0.0)
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    with show.waiting("calling the peer"):
        for _ in range(1000):
            if told := capsys.readouterr().err:
                break
            show.threading.Event().wait(0.01)
    assert told == "weft: calling the peer …\n"


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_script_is_printed(weft: Terminal, shell: str) -> None:
    seen = weft.bare("completion", shell)
    assert seen.code == 0
    assert "_WEFT_COMPLETE" in seen.out


def test_module_runs_as_the_command_and_reports_no_daemon(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "weft", "info", "--dir", str(tmp_path)], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith("weft: no daemon answers at ")


def test_answer_imports_no_event_loop_and_no_server(tmp_path: Path) -> None:
    program = (
        "import sys; from weft.cli import main; main(['info', '--dir', sys.argv[1]]);"
        "print([name for name in ('aiohttp', 'asyncio', 'cryptography', 'pyroute2') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", program, str(tmp_path)], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


def test_bug_is_one_line_without_the_message(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(KeyError) as caught:
        raise KeyError("s3cr3t")
    assert report(caught.value) == 1
    told = capsys.readouterr().err
    assert re.fullmatch(r"weft: this is a bug, please report it: KeyError at .*test_grammar\.py:\d+\n", told)


@pytest.mark.parametrize(
    ("error", "code", "says"),
    [
        (click.Abort(), 130, "interrupted"),
        (OSError(28, "No space left on device", "/d/key"), 1, "/d/key: No space left on device"),
        (OSError("odd"), 1, "odd"),
        (click.ClickException("plain"), 1, "plain"),
    ],
)
def test_any_error_is_one_line(error: Exception, code: int, says: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert report(error) == code
    assert capsys.readouterr().err == f"weft: {says}\n"


def test_second_interrupt_in_the_midst_of_the_first_is_one_too(capsys: pytest.CaptureFixture[str]) -> None:
    @click.command
    def waits() -> None:
        try:
            raise KeyboardInterrupt
        finally:
            raise RuntimeError("release unlocked lock")

    assert run(waits, ()) == 130
    assert capsys.readouterr().err == "weft: interrupted\n"


def test_reader_that_went_away_gets_no_traceback() -> None:
    done = subprocess.run(
        ["bash", "-c", f"set -o pipefail; {sys.executable} -m weft completion zsh | true"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stderr == ""


@pytest.mark.skipif(os.name != "posix", reason="a shell closes them")
@pytest.mark.parametrize(("closed", "code"), [("<&-", 1), (">&-", 0), ("2>&-", 2), ("<&- >&- 2>&-", 1)])
def test_stream_that_is_closed_is_as_good_as_an_empty_one(tmp_path: Path, closed: str, code: int) -> None:
    command = {">&-": "genkey", "2>&-": "stauts"}.get(closed, "pubkey")
    done = subprocess.run(
        ["bash", "-c", f"exec {sys.executable} -m weft --dir {tmp_path} {command} {closed}"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout) == (code, "")
    assert done.stderr in {"", "weft: standard input is no private key; `weft genkey` makes one\n"}


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs /dev/full")
def test_full_disk_under_the_output_is_one_line() -> None:
    with open("/dev/full", "w") as full:
        done = subprocess.run(
            [sys.executable, "-m", "weft", "--version"], stdout=full, stderr=subprocess.PIPE, text=True, check=False
        )
    assert (done.returncode, done.stderr) == (1, "weft: No space left on device\n")


def test_main_runs_what_the_process_was_given(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["weft", "--version"])
    assert main() == 0
    assert capsys.readouterr().out.startswith("weft ")
