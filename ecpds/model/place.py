"""Where in a text something stands, so that every complaint can name line and column."""

from __future__ import annotations

from dataclasses import dataclass

from ecpds.model.errors import RuleError


@dataclass(frozen=True, slots=True)
class Place:
    """Line and column of a character, both counted from 1; line 0 is a text of one line."""

    line: int = 0
    column: int = 1

    def moved(self, columns: int) -> Place:
        """Return the place so many characters further right."""
        return Place(self.line, self.column + columns)

    def error(self, message: str) -> RuleError:
        """Make the error that names this place; `facts` hold `line` and `column`."""
        where = f"line {self.line}, column {self.column}" if self.line else f"column {self.column}"
        return RuleError(f"{where}: {message}", line=self.line, column=self.column)


@dataclass(frozen=True, slots=True)
class Problem:
    """One complaint about a text: an error keeps it from working, a warning does not."""

    line: int
    column: int
    message: str
    is_error: bool = True

    @classmethod
    def of(cls, error: Exception, line: int = 0) -> Problem:
        """Make the problem of an error, with its own place if it tells one."""
        facts = getattr(error, "facts", {})
        return cls(int(facts.get("line") or line), int(facts.get("column") or 1), str(error))
