"""What a user may do on which path: granted operations and `portal.<op>PathPermRegex`.

The expression must match the whole text `[login]data:/<destination>/<path>`; one that does not
compile denies, with one warning.  Spec: portal.md 1.3, Ex 2 and 3.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from ecpds.base.logs import get_logger
from ecpds.model.account import Permission, Profile
from ecpds.model.errors import RuleError
from ecpds.model.families import PortalOptions
from ecpds.model.pathrights import PathRights, parse_path_rights, rights_at
from ecpds.model.rules import compile_regex

log = get_logger(__name__)

ANY_STAT = (Permission.DIR, Permission.GET, Permission.SIZE, Permission.MTIME)
_NEVER = re.compile(r"(?!)")


@dataclass(frozen=True, slots=True)
class Rights:
    """The rights of one login, compiled."""

    login: str
    operations: frozenset[Permission]
    patterns: Mapping[Permission, re.Pattern[str]]
    paths: PathRights = ()

    @classmethod
    def of(cls, profile: Profile, options: PortalOptions) -> Rights:
        """Compile; a bad expression denies and is logged once."""
        login = profile.user.login
        patterns: dict[Permission, re.Pattern[str]] = {}
        for permission in Permission:
            text = getattr(options, f"{permission.value}_regex")
            if not text:
                continue
            try:
                patterns[permission] = compile_regex(text)
            except RuleError as error:
                patterns[permission] = _NEVER
                log.warning(
                    "a path expression denies everything",
                    user=login, operation=permission.value, reason=error.message,
                )  # fmt: skip
        return cls(login, profile.operations, patterns, _paths(login, options))

    def allows(self, permission: Permission, destination: str, inner: str) -> bool:
        """Tell whether the operation is granted on that path of a destination ('' for the top)."""
        if not self.paths and permission not in self.operations:
            return False
        pattern = self.patterns.get(permission)
        if pattern is None and not self.paths:
            return True
        path = "/".join(part for part in (destination, inner) if part)
        if self.paths:
            granted = rights_at(self.paths, f"/{path}")
            if permission not in (self.operations if granted is None else granted):
                return False
        return pattern is None or pattern.fullmatch(f"[{self.login}]data:/{path}") is not None

    @property
    def is_empty(self) -> bool:
        """Tell whether nothing is granted anywhere."""
        return not self.operations and not any(granted for _, granted in self.paths)

    def allows_stat(self, destination: str, inner: str) -> bool:
        """Tell whether anything may be known of that path."""
        return any(self.allows(permission, destination, inner) for permission in ANY_STAT)

    def is_narrow(self, permission: Permission) -> bool:
        """Tell whether an operation that is granted may yet be refused for some paths."""
        return permission not in self.operations or permission in self.patterns

    def reaches(self, destination: str, inner: str) -> bool:
        """Tell whether the credential is good for that path, whatever the operation."""
        del destination, inner
        return True


_WRITES = frozenset(
    {Permission.PUT, Permission.DELETE, Permission.MKDIR, Permission.RMDIR, Permission.RENAME}
)


@dataclass(frozen=True, slots=True)
class ScopedRights(Rights):
    """What is left of a user's rights to one of its access keys.

    `prefix` is what `<destination>/<path>` has to begin with; the directories that lead there can
    be listed, and show nothing else.
    """

    prefix: str = ""
    read_only: bool = False

    def allows(self, permission: Permission, destination: str, inner: str) -> bool:
        """Tell whether the user's right and the key's scope agree."""
        if self.read_only and permission in _WRITES:
            return False
        if not self.reaches(destination, inner) and not (
            permission is Permission.DIR and self._leads(destination, inner)
        ):
            return False
        return Rights.allows(self, permission, destination, inner)

    def is_narrow(self, permission: Permission) -> bool:
        """Tell whether an operation that is granted may yet be refused for some paths."""
        return bool(self.prefix) or Rights.is_narrow(self, permission)

    def reaches(self, destination: str, inner: str) -> bool:
        """Tell whether the path begins with the prefix."""
        return f"{destination}/{inner}".startswith(self.prefix)

    def _leads(self, destination: str, inner: str) -> bool:
        path = "/".join(part for part in (destination, inner.rstrip("/")) if part)
        return not path or self.prefix.startswith(f"{path}/")


def _paths(login: str, options: PortalOptions) -> PathRights:
    """Return the rules by path; an imported text that cannot be read grants nothing at all."""
    if not options.path_permissions:
        return ()
    try:
        return parse_path_rights(options.path_permissions)
    except RuleError as error:
        log.warning("path rules deny everything", user=login, reason=error.message)
        return (("/", frozenset()),)
