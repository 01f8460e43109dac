"""Where `templates/` and `config/` are: in the wheel, the checkout or the single-file binary."""

from __future__ import annotations

from pathlib import Path


def shared(name: str) -> Path:
    """Return the directory of a shared tree (`templates` or `config`)."""
    package = Path(__file__).resolve().parent.parent
    for place in (package / "_share" / name, package.parent / name):
        if place.is_dir():
            return place
    raise FileNotFoundError(f"the {name} tree is not installed")
