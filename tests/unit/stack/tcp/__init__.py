"""Tests of TCP."""

import pytest

pytest.register_assert_rewrite("tests.unit.stack.tcp.script")
