"""The one rule grammar: selectors of dissemination targets, aliases, force, host choice, headers.

    line       = "(" condition { (";" | ",") condition } ")" result  |  result
    condition  = [left] operator right            without a left side the subject is compared
    operator   : ==  equal, or a regular expression when right is {...}
                 !=  different     .=  starts with     =.  ends with; right may be a list {a|b}

All conditions of a line must hold.  A selector takes the line with the most conditions, then the
first; a rule list takes the first.  A line without conditions is the default wherever it stands
(the last of several).  Blank lines and lines with `#` in front say nothing.  Brackets are balanced,
quotes protect separators.  A result is text here: whoever owns the rules reads it.

Imported texts (`legacy`) keep the two older meanings: dissemination.md section 3, schedulers.md 6.
"""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Final

from ecpds.model import balanced
from ecpds.model.errors import RuleError
from ecpds.model.place import Place, Problem
from ecpds.model.tokens import Pieces, Vocabulary, parse_pieces
from ecpds.model.tokenvalues import constant, render_pieces

MAX_TEXT: Final = 262_144
"""Longest text of rules, in characters."""

MAX_RULES: Final = 1000
MAX_REGEX: Final = 4096

_OPERATORS: Final = ("==", "!=", ".=", "=.")
_NO_TOKENS: Final = Vocabulary.make()


class Policy(Enum):
    """Which of the lines that hold is taken."""

    MOST = "most conditions, then first"
    FIRST = "first"


def compile_regex(text: str, place: Place | None = None) -> re.Pattern[str]:
    """Compile a regular expression that is matched against whole texts.

    Raises:
        RuleError: it does not compile, or is longer than 4096 characters.
    """
    where = place or Place()
    if len(text) > MAX_REGEX:
        raise where.error(f"a regular expression has at most {MAX_REGEX} characters")
    try:
        return re.compile(text)
    except (re.error, OverflowError, RecursionError) as error:
        raise where.error(f"bad regular expression {text[:80]!r}: {error}") from None


@dataclass(frozen=True, slots=True)
class Condition:
    """One comparison; `left` None is the subject."""

    text: str
    left: Pieces | None
    operator: str
    rights: tuple[Pieces, ...]
    regex: re.Pattern[str] | None = None  # of a right side without tokens
    is_regex: bool = False

    def holds(self, subject: str, values: Mapping[str, str]) -> bool:
        """Compare; raises TemplateError when a slice is out of range."""
        left = subject if self.left is None else render_pieces(self.left, values).strip()
        if self.is_regex:
            return self._matches(left, values)
        rights = [render_pieces(right, values).strip() for right in self.rights]
        if self.operator == "!=":
            return left not in rights
        if self.operator == "==":
            return left in rights
        compare = str.startswith if self.operator == ".=" else str.endswith
        return any(compare(left, right) for right in rights)

    def _matches(self, left: str, values: Mapping[str, str]) -> bool:
        regex = self.regex
        if regex is None:
            source = "".join(
                piece if isinstance(piece, str) else re.escape(render_pieces((piece,), values))
                for piece in self.rights[0]
            )
            try:
                regex = compile_regex(source)
            except RuleError:
                return False
        return regex.fullmatch(left) is not None

    @property
    def only(self) -> str | None:
        """Return the one constant left side for which this holds, if there is just one."""
        if self.operator != "==" or self.is_regex or len(self.rights) != 1:
            return None
        return constant(self.rights[0])


_NEVER: Final = Condition("", (), "==", ())


@dataclass(frozen=True, slots=True)
class Rule:
    """One line: its conditions, none for a default, and its result as text at `place`."""

    conditions: tuple[Condition, ...]
    result: str
    place: Place
    text: str

    @property
    def is_default(self) -> bool:
        """Tell whether this line has no conditions."""
        return not self.conditions


@dataclass(frozen=True, slots=True)
class Chosen:
    """The line that was taken and how many of its conditions hold."""

    rule: Rule
    score: int


@dataclass(frozen=True, slots=True)
class RuleSet:
    """Compiled rules; equal texts give equal sets, so they can be cached by text."""

    rules: tuple[Rule, ...]
    policy: Policy
    legacy: bool = False
    default_counts: bool = True  # legacy rule lists ignore a default that is not the last line

    @classmethod
    def parse(
        cls,
        text: str,
        *,
        policy: Policy,
        vocabulary: Vocabulary = _NO_TOKENS,
        legacy: bool = False,
        globs: bool = False,
    ) -> RuleSet:
        """Compile; with `globs` a `{...}` that is no regular expression is read as a glob.

        Raises:
            RuleError: names line and column.
        """
        if len(text) > MAX_TEXT:
            raise RuleError(f"rules are longer than {MAX_TEXT} characters")
        maker = _Maker(vocabulary, policy, globs)
        read = maker.legacy_rule if legacy else maker.rule
        lines = text.split("\n")
        rules = [rule for number, line in enumerate(lines, 1) if (rule := read(line, number))]
        if len(rules) > MAX_RULES:
            raise RuleError(f"more than {MAX_RULES} rules")
        last = rules[-1] if rules else None
        counts = not legacy or (
            last is not None and last.is_default and last.place.line == len(lines)
        )
        return cls(tuple(rules), policy, legacy, counts or policy is Policy.MOST)

    def choose(self, subject: str, values: Mapping[str, str] | None = None) -> Chosen | None:
        """Return the line for this subject and these token values, None when there is none.

        Raises:
            RuleError: two best lines of a legacy selector have the same score.
            TemplateError: a slice in a condition is out of range.
        """
        known = values or {}
        if self.legacy and self.policy is Policy.MOST:
            return self._choose_by_score(subject, known)
        best: Chosen | None = None
        default: Rule | None = None
        for rule in self.rules:
            if rule.is_default:
                default = rule
            elif all(condition.holds(subject, known) for condition in rule.conditions):
                score = len(rule.conditions)
                if self.policy is Policy.FIRST:
                    return Chosen(rule, score)
                if best is None or score > best.score:
                    best = Chosen(rule, score)
        if best is None and default is not None and self.default_counts:
            return Chosen(default, 0)
        return best

    def _choose_by_score(self, subject: str, values: Mapping[str, str]) -> Chosen | None:
        """Count true conditions, not all of which need to hold; a bare line wins at once."""
        chosen: Chosen | None = None
        best, is_tie = 0, False
        for rule in self.rules:
            if rule.is_default:
                chosen = Chosen(rule, 0)
                continue
            score = sum(condition.holds(subject, values) for condition in rule.conditions)
            if score > best:
                chosen, best, is_tie = Chosen(rule, score), score, False
            elif score == best and score > 0:
                is_tie = True
        if is_tie:
            raise RuleError(f"duplicated score: several rules have {best} true conditions")
        return chosen

    def ties(self) -> list[Problem]:
        """Return a warning for each pair of lines that may hold together with equal counts."""
        if self.policy is Policy.FIRST or self.legacy:
            return []
        rules = [rule for rule in self.rules if not rule.is_default][:_TIES]
        return [
            Problem(
                second.place.line,
                1,
                f"this line and line {first.place.line} have {len(first.conditions)} conditions "
                "each and may hold together; then the first is taken",
                is_error=False,
            )
            for number, second in enumerate(rules)
            for first in rules[:number]
            if len(first.conditions) == len(second.conditions) and not _disjoint(first, second)
        ]


_TIES: Final = 100


def _disjoint(first: Rule, second: Rule) -> bool:
    """Tell whether two lines surely never hold together, by what they say of one left side."""
    for one, other in _pairs(first, second):
        only = one.only
        if only is None or any(constant(right) is None for right in other.rights):
            continue
        if not Condition(
            other.text, None, other.operator, other.rights, other.regex, other.is_regex
        ).holds(only, {}):
            return True
    return False


def _pairs(first: Rule, second: Rule) -> Iterator[tuple[Condition, Condition]]:
    for one in first.conditions:
        for other in second.conditions:
            if one.left == other.left:
                yield one, other
                yield other, one


# --- compiling -----------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Maker:
    vocabulary: Vocabulary
    policy: Policy
    globs: bool

    def rule(self, line: str, number: int) -> Rule | None:
        text = line.strip()
        place = Place(number, len(line) - len(line.lstrip()) + 1)
        if not text or text.startswith("#"):
            return None
        if not text.startswith("("):
            return Rule((), text, place, text)
        end = balanced.closing(text, 0, place)
        parts = balanced.split(text[1:end], ";,", place.moved(1))
        conditions = tuple(self.condition(part, place.moved(1 + offset)) for offset, part in parts)
        result = text[end + 1 :]
        start = end + 1 + len(result) - len(result.lstrip())
        return Rule(conditions, result.strip(), place.moved(start), text)

    def condition(self, part: str, place: Place) -> Condition:
        found = balanced.find_operator(part, _OPERATORS, place)
        if found is None:
            raise place.error(
                f"{part.strip()!r} is no condition; use one of {' '.join(_OPERATORS)}"
            )
        here, operator = found
        if operator == ".=" and part.startswith("==", here + 1):
            here, operator = here + 1, "=="  # a left side that ends in a point
        left, right = part[:here].strip(), part[here + 2 :].lstrip()
        where = place.moved(len(part) - len(right))
        right = right.rstrip()
        left_pieces = self.side(left, place) if left else None
        if not (right.startswith("{") and right.endswith("}")):
            return Condition(part.strip(), left_pieces, operator, (self.side(right, where),))
        if operator == "==":
            return self.regex(part.strip(), left_pieces, right[1:-1], where.moved(1))
        rights = tuple(
            self.side(item.strip(), where) for _, item in balanced.split(right[1:-1], "|", where)
        )
        return Condition(part.strip(), left_pieces, operator, rights)

    def side(self, text: str, place: Place) -> Pieces:
        return parse_pieces(balanced.unquoted(text, place), self.vocabulary, place=place)

    def regex(self, text: str, left: Pieces | None, source: str, place: Place) -> Condition:
        pieces = parse_pieces(source, self.vocabulary, place=place, keep_unknown=True)
        plain = constant(pieces)
        if plain is None:
            return Condition(text, left, "==", (pieces,), None, True)
        try:
            regex = compile_regex(plain, place)
        except RuleError:
            if not self.globs:
                raise
            regex = re.compile(fnmatch.translate(plain))
        return Condition(text, left, "==", (pieces,), regex, True)

    # --- imported texts ---

    def legacy_rule(self, line: str, number: int) -> Rule | None:
        text = line.strip()
        place = Place(number, len(line) - len(line.lstrip()) + 1)
        if not text:
            return None
        if not text.startswith("("):
            return Rule((), text, place, text)
        inner, bracket, result = text[1:].partition(")")
        if not bracket:
            return None
        conditions = tuple(self.legacy_condition(part) for part in re.split("[;,]", inner))
        start = len(inner) + 2 + len(result) - len(result.lstrip())
        return Rule(conditions, result.strip(), place.moved(start), text)

    def legacy_condition(self, part: str) -> Condition:
        """Search operators in their order over the whole text; what is odd never holds."""
        for operator in _OPERATORS:
            left, sign, right = part.partition(operator)
            if not sign:
                continue
            subject = self.policy is Policy.FIRST and not left.strip()
            pieces = None if subject else self.legacy_side(left)
            right = right.strip()
            if operator == "==" and right.startswith("{") and right.endswith("}"):
                try:
                    return self.regex(part, pieces, right[1:-1], Place())
                except RuleError:
                    return _NEVER
            return Condition(part, pieces, operator, (self.legacy_side(right),))
        return _NEVER

    def legacy_side(self, text: str) -> Pieces:
        return parse_pieces(text.strip(), self.vocabulary, legacy=True)


# --- settings ------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Setting:
    """One `name=value` of a result; `raw` still has the quotes of the value."""

    name: str
    value: str
    raw: str
    place: Place


def parse_settings(text: str, place: Place) -> tuple[Setting, ...]:
    """Read `name=value` separated by `;` or `,`; quotes and brackets protect separators.

    Raises:
        RuleError: a part without `=`, or brackets or quotes never closed; names the column.
    """
    found: list[Setting] = []
    for offset, part in balanced.split(text, ";,", place):
        where = place.moved(offset)
        if not part.strip():
            continue
        name, sign, raw = part.partition("=")
        if not sign or not name.strip():
            raise where.error(f"a setting is name=value, not {part.strip()[:60]!r}")
        value = balanced.unquoted(raw.strip(), where)
        found.append(Setting(name.strip(), value, raw.strip(), where))
    return tuple(found)
