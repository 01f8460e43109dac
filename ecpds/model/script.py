"""Directory texts that are scripts: `$( js:code )`, `$( python:code )`, without prefix JavaScript.

Only the recognition lives here; scripts run in a process of their own, far above this layer.
Tokens in the code become values escaped for the inside of a string literal, so that
`"$destination[name]"` works as ever and no value can end the literal it stands in.

Spec: acquisition.md section 11, dissemination.md section 5.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from ecpds.model.place import Place
from ecpds.model.tokens import Pieces, Vocabulary, parse_pieces
from ecpds.model.tokenvalues import Dates, token_value

_PREFIX: Final = re.compile(r"\s*(js|javascript|python|py)\s*:", re.IGNORECASE)
_LANGUAGES: Final = {"js": "javascript", "javascript": "javascript", "py": "python"}
_UNSAFE: Final = re.compile("[\x00-\x1f\x7f\\\\\"'`$\u2028\u2029]")


@dataclass(frozen=True, slots=True)
class Script:
    """A script as found; `language` is `javascript` or `python`."""

    language: str
    code: Pieces

    @classmethod
    def find(cls, text: str, vocabulary: Vocabulary) -> Script | None:
        """Return the script if the whole text is one, else None; unknown tokens stay as text."""
        trimmed = text.strip()
        if not (trimmed.startswith("$(") and trimmed.endswith(")")):
            return None
        return cls._of(trimmed[2:-1], vocabulary)

    @classmethod
    def behind(cls, text: str, vocabulary: Vocabulary) -> Script | None:
        """Return the script behind options, with or without `$( )`; None when there is none."""
        if not text.strip():
            return None
        return cls.find(text, vocabulary) or cls._of(text, vocabulary)

    @classmethod
    def _of(cls, inner: str, vocabulary: Vocabulary) -> Script:
        prefix = _PREFIX.match(inner)
        language = "javascript"
        if prefix is not None:
            language = _LANGUAGES.get(prefix[1].lower(), "python")
            inner = inner[prefix.end() :]
        place = Place(1)
        return cls(language, parse_pieces(inner, vocabulary, place=place, keep_unknown=True))

    def source(self, values: Mapping[str, str], dates: Dates | None = None) -> str:
        """Return the code with escaped values; raises TemplateError as `token_value`."""
        return "".join(
            piece if isinstance(piece, str) else escaped(token_value(piece, values, dates))
            for piece in self.code
        )


def escaped(value: str) -> str:
    r"""Return a value for the inside of any string literal of JavaScript or Python, as `\x27`."""
    return _UNSAFE.sub(_escape, value)


def _escape(match: re.Match[str]) -> str:
    code = ord(match[0])
    return f"\\x{code:02x}" if code < 256 else f"\\u{code:04x}"
