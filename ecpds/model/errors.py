"""Every error of the hub, as one tree.

Each class has a stable `code` (JSON API, event log, metrics) and says whether another try can help.
Transfer modules turn their library's errors into `RemoteError`s; portals turn errors into protocol
answers by one table each.  Whoever needs a new failure adds a class here, never a string elsewhere.
"""

from __future__ import annotations

from enum import StrEnum
from typing import ClassVar


class EcpdsError(Exception):
    """Anything that the hub itself reports as wrong.

    `facts` are named values for the log and for machines; the message alone must make sense to a
    person.
    """

    code: ClassVar[str] = "internal"
    retryable: ClassVar[bool] = False

    def __init__(self, message: str, **facts: object) -> None:
        super().__init__(message)
        self.message = message
        self.facts = facts

    def __str__(self) -> str:
        return self.message


# --- what somebody gave us -------------------------------------------------------------------


class InputError(EcpdsError):
    """A value from outside is not acceptable; `pointer` tells which one."""

    code = "invalid-input"

    def __init__(self, message: str, *, pointer: str = "", **facts: object) -> None:
        super().__init__(message, pointer=pointer, **facts)
        self.pointer = pointer


class ConfigError(InputError):
    """A settings or site file is wrong; names file, line, key and the nearest known name."""

    code = "invalid-config"

    def __init__(
        self, message: str, *, file: str = "", line: int = 0, key: str = "", nearest: str = ""
    ) -> None:
        place = f"{file}:{line}: " if line else f"{file}: " if file else ""
        hint = f" (did you mean {nearest!r}?)" if nearest else ""
        self.bare = message
        super().__init__(f"{place}{message}{hint}", pointer=key, file=file, line=line)
        self.file, self.line, self.key, self.nearest = file, line, key, nearest


class OptionError(InputError):
    """An option is unknown, does not apply, or has a value that cannot be read."""

    code = "invalid-option"


class RuleError(InputError):
    """A rule, selector, regular expression, date pattern or directory line cannot be read."""

    code = "invalid-rule"


class TemplateError(InputError):
    """A target template gives no usable path."""

    code = "template"


class ScriptError(InputError):
    """A script fails, takes too much, or gives what is not asked for."""

    code = "script"


class InvalidName(InputError):
    """A name or path has a form that no protocol may create."""

    code = "invalid-name"


class Malformed(InputError):
    """A message of a peer breaks the rules of its protocol."""

    code = "malformed"


# --- who asks --------------------------------------------------------------------------------


class Unauthenticated(EcpdsError):
    """The caller is not known, or its credential is wrong."""

    code = "unauthenticated"


class Banned(Unauthenticated):
    """The caller's address failed too often."""

    code = "banned"


class Denied(EcpdsError):
    """The caller is known and may not do this."""

    code = "denied"


# --- what is or is not there -----------------------------------------------------------------


class NotFound(EcpdsError):
    """No such object, or not visible to the caller."""

    code = "not-found"


class NotStored(NotFound):
    """The file is registered, its content has not arrived yet."""

    code = "not-stored"
    retryable = True


class Conflict(EcpdsError):
    """The present state forbids the act."""

    code = "conflict"


class Exists(Conflict):
    """The name is taken."""

    code = "exists"


class Duplicate(Conflict):
    """A live transfer has the same unique key."""

    code = "duplicate"


class Busy(Conflict):
    """Somebody else is at this very object now."""

    code = "busy"
    retryable = True


class BadState(Conflict):
    """The status of the object does not allow this verb."""

    code = "bad-state"


class NotEmpty(Conflict):
    """The directory has members."""

    code = "not-empty"


class IsDirectory(Conflict):
    """A file was expected."""

    code = "is-directory"


class NotDirectory(Conflict):
    """A directory was expected."""

    code = "not-directory"


class PreconditionFailed(Conflict):
    """The object is not the version that the caller named."""

    code = "precondition-failed"


class Unsupported(EcpdsError):
    """The protocol, module or node does not do that."""

    code = "unsupported"


# --- limits ----------------------------------------------------------------------------------


class LimitError(EcpdsError):
    """A stated limit was reached."""

    code = "limit"


class QuotaExceeded(LimitError):
    """The rolling byte quota is used up; `retry_after` in seconds if known."""

    code = "quota"
    retryable = True


class TooLarge(LimitError):
    """The file is larger than the destination accepts."""

    code = "too-large"


class TooManyPending(LimitError):
    """The destination's queue is full."""

    code = "too-many-pending"
    retryable = True


class TooManyConnections(LimitError):
    """The account or listener has no free slot."""

    code = "too-many-connections"
    retryable = True


class StorageFull(LimitError):
    """No volume has room above its reserve."""

    code = "storage-full"
    retryable = True


class Expired(LimitError):
    """The request or object is past its lifetime."""

    code = "expired"


# --- content ---------------------------------------------------------------------------------


class Incomplete(EcpdsError):
    """Fewer bytes came than were promised; nothing was registered."""

    code = "incomplete"
    retryable = True


class ChecksumMismatch(EcpdsError):
    """The bytes are not the ones that were announced or stored."""

    code = "checksum"
    retryable = True


class SourceBroke(EcpdsError):
    """Reading the content that we were sending failed on our side."""

    code = "source-broke"
    retryable = True


class StoreError(EcpdsError):
    """The metadata store cannot be used."""

    code = "store"


class StoreTooNew(StoreError):
    """The store was written by a newer release."""

    code = "store-too-new"


class Stopping(EcpdsError):
    """The node is shutting down."""

    code = "stopping"
    retryable = True


# --- remote systems --------------------------------------------------------------------------


class Phase(StrEnum):
    """Where in an attempt something failed."""

    RESOLVE = "resolve"
    CONNECT = "connect"
    TLS = "tls"
    AUTH = "auth"
    CWD = "cwd"
    MKDIR = "mkdir"
    LIST = "list"
    DATA = "data"
    VERIFY = "verify"
    RENAME = "rename"
    HOOK = "hook"
    CLOSE = "close"


class RemoteError(EcpdsError):
    """Something went wrong with a remote system.

    `kind` is the error class of the retry rules, `remote_code` and `remote_text` are what the
    remote side said.
    """

    code = "remote"
    kind: ClassVar[str] = "transient"
    retryable = True

    def __init__(
        self,
        message: str,
        *,
        phase: Phase = Phase.DATA,
        remote_code: str = "",
        remote_text: str = "",
        **facts: object,
    ) -> None:
        super().__init__(message, phase=phase.value, remote_code=remote_code, **facts)
        self.phase = phase
        self.remote_code = remote_code
        self.remote_text = remote_text


class RemoteTransient(RemoteError):
    """A fault that may be gone next time."""

    code = "remote-transient"


class ConnectionLost(RemoteTransient):
    """The session broke in the middle of an act."""

    code = "remote-lost"


class RemoteTimeout(RemoteTransient):
    """The remote side did not answer, or no byte moved, in time."""

    code = "remote-timeout"


class RemoteConfig(RemoteError):
    """An option of the Host is wrong."""

    code = "remote-config"
    kind = "config"
    retryable = False


class RemoteAuth(RemoteError):
    """The remote side refused our login."""

    code = "remote-auth"
    kind = "auth"
    retryable = False


class RemotePin(RemoteError):
    """Host key or certificate is not the one that we expect."""

    code = "remote-pin"
    kind = "pin"
    retryable = False


class RemoteSpace(RemoteError):
    """The remote side has no room."""

    code = "remote-space"
    kind = "space"


class RemoteName(RemoteError):
    """The remote side refuses the name, or its directory is missing."""

    code = "remote-name"
    kind = "name"


class RemoteMissing(RemoteError):
    """The remote file is not there."""

    code = "remote-missing"
    kind = "missing"


class RemoteVerify(RemoteError):
    """Size or checksum differ after the transfer."""

    code = "remote-verify"
    kind = "verify"


class RemoteCancelled(RemoteError):
    """An operator stopped the act."""

    code = "remote-cancelled"
    kind = "cancelled"
    retryable = False


def root_message(error: BaseException) -> str:
    """Return a short text for a person: our own message, or class and text of a foreign error."""
    if isinstance(error, EcpdsError):
        return error.message
    return f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
