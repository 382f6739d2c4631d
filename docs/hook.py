"""A hook of properdocs: pages of the repository's root, with their links adapted, and pages made from the code."""

from __future__ import annotations

import re
import sys
from pathlib import Path

from properdocs.config.defaults import ProperDocsConfig
from properdocs.structure.files import File, Files

sys.path.insert(0, str(Path(__file__).parent))
import generated

ROOT = Path(__file__).parent.parent
FROM_ROOT = ("ARCHITECTURE.md", "CONTRIBUTING.md", "CHANGELOG.md")


def on_files(files: Files, config: ProperDocsConfig) -> Files:
    """Add the pages; `docs/wire.md` is `wire.md` there, and what has no page is named without a link."""
    for name in FROM_ROOT:
        text = (ROOT / name).read_text("utf-8").replace("](docs/", "](")
        linked = re.sub(r"\[([^]]+)\]\((?!https?:|#|ARCH|CONTR|CHANGE|[a-z]+\.md)[^)]+\)", r"\1", text)
        files.append(File.generated(config, name, content=linked))
    for name, content in generated.pages().items():
        files.append(File.generated(config, name, content=content))
    return files
