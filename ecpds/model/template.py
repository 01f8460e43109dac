"""Where a file goes on the remote system: the directory text of a dissemination Host.

The text is a template or a list of selector rules with templates (`rules`), parsed once; values
are inserted into what was parsed, so that no value can act as a rule, a separator or a token.
Rendering is a pure function of template and values and also tells how it came to its result.

Spec: dissemination.md sections 1 to 4.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, tzinfo
from typing import Final

from ecpds.model.errors import RuleError, TemplateError
from ecpds.model.place import Problem
from ecpds.model.rules import Policy, RuleSet
from ecpds.model.script import Script
from ecpds.model.targets import normal_target
from ecpds.model.tokens import DateParams, Pieces, Token, Vocabulary, parse_pieces
from ecpds.model.tokenvalues import Dates, render_pieces, token_value

MAX_PATH: Final = 4096
"""Longest remote path, in characters."""

TOKENS: Final = Vocabulary.make(
    "moverName",
    "date",
    {
        "dataTransfer": (
            "target id comment identity priority scheduled statusCode name path parent asap"
        ),
        "dataFile": (
            "id original source size formatSize checksum timeStep timeBase timeFile arrivedTime "
            "metaTime metaStream"
        ),
        "metadata": None,
        "destination": "name comment userMail",
        "country": "name iso",
        "host": ("name nickname comment host login userMail networkCode networkName checkFilename"),
        "transferMethod": "name comment value",
        "ectransModule": "name",
        "transferServer": "name host port",
        "originalTransferServer": "name host port",
        "transferGroup": "name comment",
    },
)
"""What a directory text may use; secrets of the Host are not among it."""

_NAMES: Final = frozenset(
    {f"dataTransfer[{key}]" for key in ("target", "name", "path", "id", "identity")}
    | {f"dataFile[{key}]" for key in ("id", "original", "source")}
)


@dataclass(frozen=True, slots=True, kw_only=True)
class TargetValues:
    """What a template is filled with: the target, and values by token id (`metadata[type]`)."""

    target: str
    tokens: Mapping[str, str]
    now: datetime
    timezone: tzinfo | None = None

    @property
    def dates(self) -> Dates:
        """Return what date tokens need."""
        return Dates(now=self.now, defaults={"date": DateParams(timezone=self.timezone)})


@dataclass(frozen=True, slots=True, kw_only=True)
class Explanation:
    """How a path came about; `line` is 0 for an empty directory text."""

    line: int = 0
    rule: str = ""
    score: int = 0
    is_default: bool = True
    tokens: tuple[tuple[str, str], ...] = ()
    is_appended: bool = False

    def __str__(self) -> str:
        if not self.line:
            return "no directory text: the target itself"
        how = "the default" if self.is_default else f"{self.score} conditions hold"
        parts = [f"line {self.line} ({how}): {self.rule}"]
        parts += [f"{text} = {value!r}" for text, value in self.tokens]
        return "; ".join(parts + ["the target is appended"] * self.is_appended)


@dataclass(frozen=True, slots=True)
class Template:
    """A compiled directory text; with a `script` it has no rules of its own."""

    text: str
    rules: RuleSet | None
    results: Mapping[int, Pieces]  # by line
    script: Script | None = None

    @classmethod
    def parse(cls, text: str, *, legacy: bool = False) -> Template:
        """Compile; `legacy` keeps unknown tokens as text and the older scoring of rules.

        Raises:
            RuleError: unknown token, bad rule or regular expression; names line and column.
        """
        if not text.strip():
            return cls(text, None, {})
        if (script := Script.find(text, TOKENS)) is not None:
            return cls(text, None, {}, script)
        rules = RuleSet.parse(text, policy=Policy.MOST, vocabulary=TOKENS, legacy=legacy)
        results = {
            rule.place.line: parse_pieces(rule.result, TOKENS, place=rule.place, legacy=legacy)
            for rule in rules.rules
        }
        return cls(text, rules, results)

    @property
    def directory_only(self) -> str | None:
        """Return the directory when this is one without tokens, ending in `/`, or empty."""
        if self.script is not None:
            return None
        if self.rules is None:
            return ""
        if len(self.rules.rules) != 1 or not self.rules.rules[0].is_default:
            return None
        pieces = self.results[self.rules.rules[0].place.line]
        text = pieces[0] if len(pieces) == 1 else None
        return text if isinstance(text, str) and text.endswith("/") else None

    def warnings(self) -> list[Problem]:
        """Return what works but is probably not meant."""
        if self.rules is None:
            return []
        found = self.rules.ties()
        for rule in self.rules.rules:
            pieces = self.results[rule.place.line]
            used = {piece.id for piece in pieces if isinstance(piece, Token)}
            if rule.result and not rule.result.endswith(("/", "\\")) and not used & _NAMES:
                message = (
                    f"every file gets the name {rule.result!r}: end it with / to append the target"
                )
                found.append(Problem(rule.place.line, rule.place.column, message, is_error=False))
        return found


def check_template(text: str, *, legacy: bool = False) -> list[Problem]:
    """Return errors and warnings of a directory text, for editors."""
    try:
        return Template.parse(text, legacy=legacy).warnings()
    except RuleError as error:
        return [Problem.of(error)]


def render(template: Template, values: TargetValues) -> tuple[str, Explanation]:
    """Return the remote path and how it came about.

    The path is relative to the login directory unless it begins with `/`; double slashes stay.

    Raises:
        TemplateError: the text is a script that has not run, no rule holds, the result is blank,
            leaves its base by `..`, holds a control character or is too long, or a slice or date
            fails.
    """
    if template.script is not None:
        raise TemplateError("the directory text is a script: its result is the template")
    if template.rules is None:
        return _checked("", values.target), Explanation()
    try:
        chosen = template.rules.choose(values.target, values.tokens)
        if chosen is None:
            raise TemplateError("directory not set (no default)")
        rule = chosen.rule
        pieces = template.results[rule.place.line]
        text = render_pieces(pieces, values.tokens, values.dates)
        used = tuple(
            (piece.text, token_value(piece, values.tokens, values.dates))
            for piece in pieces
            if isinstance(piece, Token)
        )
    except RuleError as error:
        raise TemplateError(error.message) from None
    if pieces and not text.strip():
        raise TemplateError(f"the directory {rule.result!r} gives nothing")
    is_appended = not text or text.endswith(("/", "\\"))
    path = _checked(_base(pieces), text + values.target if is_appended else text)
    return path, Explanation(
        line=rule.place.line,
        rule=rule.text,
        score=chosen.score,
        is_default=rule.is_default,
        tokens=used,
        is_appended=is_appended,
    )


def checked_path(path: str) -> str:
    """Return a path made of a directory and a target; TemplateError for one we never write."""
    return _checked("", path)


def _base(pieces: Pieces) -> str:
    """Return the directory that is written out before the first token: no value may leave it."""
    first = pieces[0] if pieces and isinstance(pieces[0], str) else ""
    return first[: max(first.rfind("/"), first.rfind("\\")) + 1]


_CONTROL: Final = re.compile("[\x00-\x1f\x7f]")


def _checked(base: str, path: str) -> str:
    if len(path) > MAX_PATH:
        raise TemplateError(f"the path has more than {MAX_PATH} characters")
    if _CONTROL.search(path):
        raise TemplateError(f"the path {path[:120]!r} holds a control character")
    depth = 0
    for segment in re.split(r"[/\\]", path[len(base) :]):
        depth += {"..": -1, ".": 0, "": 0}.get(segment, 1)
        if depth < 0:
            raise TemplateError(f"the path {path[:120]!r} leaves its base {base!r}")
    return path


def base_directory(text: str) -> str:
    """Return the base path of a source, backup or proxy Host.

    It is the first line up to the first `$`, nothing if that line begins with `(`.
    """
    lines = text.strip().splitlines()
    first = lines[0].strip() if lines else ""
    return "" if first.startswith("(") else first.partition("$")[0]


__all__ = [
    "TOKENS",
    "Explanation",
    "TargetValues",
    "Template",
    "base_directory",
    "check_template",
    "normal_target",
    "render",
]
