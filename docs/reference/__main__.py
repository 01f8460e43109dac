"""`make docs`: write the pages of the reference beside this file."""

from __future__ import annotations

import sys
from pathlib import Path

from docs.reference.pages import pages


def main() -> None:
    """Write what differs."""
    folder = Path(__file__).parent
    for name, text in pages().items():
        path = folder / name
        if not path.exists() or path.read_text(encoding="utf-8") != text:
            path.write_text(text, encoding="utf-8")
            sys.stdout.write(f"docs/reference/{name} written\n")


main()
