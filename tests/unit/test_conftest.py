"""The rules of tests/conftest.py, on small runs of their own."""

from pathlib import Path

import pytest

pytest_plugins = ["pytester"]

CONFTEST = Path(__file__).parent.parent / "conftest.py"
MARKERS = ("system: needs root", "interop: needs programs", "long: runs long")


@pytest.fixture
def project(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> pytest.Pytester:
    for name in ("CI", "WEFT_LONG"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")
    pytester.makeconftest(CONFTEST.read_text())
    pytester.makeini("[pytest]\nmarkers =\n" + "\n".join(f"    {marker}" for marker in MARKERS))
    return pytester


def run(project: pytest.Pytester, source: str) -> pytest.RunResult:
    project.makepyfile(f"import pytest\nfrom hypothesis import settings\n{source}\ndef test_plain(): pass\n")
    return project.runpytest_subprocess("-p", "no:cacheprovider", "-rs")


MISSING_PROGRAM = '@pytest.mark.interop("no-such-program")\ndef test_it(): assert False'
SKIPPED_MODULE = 'pytest.importorskip("no_such_module")'
LONG = "@pytest.mark.long\ndef test_it(): assert settings().max_examples == 1000"


def test_interop_without_the_program_skips_and_names_it(project: pytest.Pytester) -> None:
    result = run(project, MISSING_PROGRAM)
    result.assert_outcomes(passed=1, skipped=1)
    result.stdout.fnmatch_lines(["*needs no-such-program in the PATH*"])


def test_system_without_root_skips_and_says_so(project: pytest.Pytester) -> None:
    result = run(project, "import os\nos.geteuid = lambda: 1000\n@pytest.mark.system\ndef test_it(): assert False")
    result.assert_outcomes(passed=1, skipped=1)
    result.stdout.fnmatch_lines(["*needs root*"])


@pytest.mark.parametrize("source", [MISSING_PROGRAM, SKIPPED_MODULE], ids=["test", "module"])
def test_skip_under_ci_fails_the_run(project: pytest.Pytester, monkeypatch: pytest.MonkeyPatch, source: str) -> None:
    monkeypatch.setenv("CI", "true")
    result = run(project, source)
    assert result.ret != 0
    result.stdout.fnmatch_lines(["*skipped, which CI does not allow*"])


def test_long_test_is_left_out_by_default(project: pytest.Pytester) -> None:
    run(project, LONG).assert_outcomes(passed=1, deselected=1)


def test_long_test_runs_when_asked_for_with_ten_times_the_examples(
    project: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WEFT_LONG", "1")
    run(project, LONG).assert_outcomes(passed=2)
