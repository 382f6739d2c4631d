"""The page about testing runs as it stands."""

import asyncio
import re
from pathlib import Path
from typing import Any

from weft.testing import SimulatedNetwork, run
from weft.testing.faults import _WORDS

PAGE = Path(__file__).parents[3] / "docs" / "testing.md"


def test_examples_of_the_page_run_in_their_order() -> None:
    blocks = re.findall(r"^```python\n(.*?)^```", PAGE.read_text(), re.MULTILINE | re.DOTALL)
    names: dict[str, object] = {}
    for block in blocks:
        exec(compile(block, str(PAGE), "exec"), names)
    assert len(blocks) == 8
    assert names["Pair"]


def test_test_of_the_page_passes() -> None:
    block = re.findall(r"^```python\n(.*?)^```", PAGE.read_text(), re.MULTILINE | re.DOTALL)[0]
    names: dict[str, Any] = {}
    exec(compile(block, str(PAGE), "exec"), names)

    async def main() -> float:
        async with SimulatedNetwork() as network:
            await names["test_time_is_served_among_bad_links"](network)
            return asyncio.get_running_loop().time()

    assert run(main()) > 3600


def test_page_names_every_word_of_the_link() -> None:
    text = PAGE.read_text()
    assert [word for word in _WORDS if f"`{word}=" not in text] == []
