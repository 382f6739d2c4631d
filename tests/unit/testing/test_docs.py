"""The page about testing runs as it stands."""

import re
from pathlib import Path

from weft.testing.faults import _WORDS

PAGE = Path(__file__).parents[3] / "docs" / "testing.md"


def test_examples_of_the_page_run_in_their_order() -> None:
    blocks = re.findall(r"^```python\n(.*?)^```", PAGE.read_text(), re.MULTILINE | re.DOTALL)
    names: dict[str, object] = {}
    for block in blocks:
        exec(compile(block, str(PAGE), "exec"), names)
    assert len(blocks) == 5
    assert names["Pair"]


def test_page_names_every_word_of_the_link() -> None:
    text = PAGE.read_text()
    assert [word for word in _WORDS if f"`{word}=" not in text] == []
