"""The Accept field: which representation a client wants.  Spec: RFC 9110 section 12.5.1."""

from __future__ import annotations

from collections.abc import Sequence

MEMBERS = 64  # of one field; the rest is passed over


def weights(field: str) -> list[tuple[str, float]]:
    """Return (media range, q) in the client's order; parameters other than q are passed over."""
    found: list[tuple[str, float]] = []
    for member in field.split(",")[:MEMBERS]:
        kind, *parameters = (part.strip().lower() for part in member.split(";"))
        if "/" in kind:
            found.append((kind, _quality(parameters)))
    return found


def _quality(parameters: Sequence[str]) -> float:
    for parameter in parameters:
        name, _, value = parameter.partition("=")
        if name.strip() != "q":
            continue
        try:
            return min(max(float(value), 0.0), 1.0)
        except ValueError:
            return 0.0
    return 1.0


def _closeness(wanted: str, kind: str) -> int:
    """Return 3 for the very type, 2 for `type/*`, 1 for `*/*`, 0 for another type."""
    if wanted == kind:
        return 3
    if wanted == "*/*":
        return 1
    return 2 if wanted == kind.partition("/")[0] + "/*" else 0


def quality(field: str, kind: str) -> float:
    """Return how much the client wants `kind`, by the closest range; 0: not at all."""
    found = [(_closeness(wanted, kind), q) for wanted, q in weights(field)]
    return max(((near, q) for near, q in found if near), default=(0, 0.0))[1]


def choose(field: str, offered: Sequence[str]) -> str | None:
    """Return the offered type that the client wants most, None if it accepts none.

    Equal wishes go to the type that the client names first, then to the one offered first.
    """
    if not field.strip():
        return offered[0]
    asked = [kind for kind, _ in weights(field)]
    ranked = [
        (-q, asked.index(kind) if kind in asked else len(asked), place, kind)
        for place, kind in enumerate(offered)
        if (q := quality(field, kind)) > 0
    ]
    return min(ranked)[3] if ranked else None


def names(field: str, kind: str) -> bool:
    """Tell whether the client asks for `kind` or its family by name, not just for anything."""
    return any(_closeness(wanted, kind) >= 2 and q > 0 for wanted, q in weights(field))
