"""What is not installed is asked for in one line."""

from __future__ import annotations

from importlib import import_module

import pytest

from weft.clients.extras import extra
from weft.errors import UsageError


def test_missing_package_is_named_with_the_way_to_get_it() -> None:
    with pytest.raises(UsageError, match=r"needs nothing_of_the_kind.*pip install 'weft\[http\]'"), extra("http"):
        import_module("nothing_of_the_kind")


def test_missing_module_of_our_own_is_a_bug() -> None:
    with pytest.raises(ModuleNotFoundError), extra("http"):
        import_module("weft.nothing_of_the_kind")


def test_what_is_there_is_imported() -> None:
    with extra("http"):
        assert import_module("json")
