"""What failures of Google Cloud Storage mean.

Spec: Google "HTTP status and error codes for JSON"; transfer-modules.md section 6.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Final

from ecpds.model.errors import (
    Phase,
    RemoteAuth,
    RemoteConfig,
    RemoteError,
    RemoteMissing,
    RemoteName,
    RemoteSpace,
    RemoteTransient,
)
from ecpds.modules.cloud import Answer, Call

_STATUSES: Final[Mapping[int, type[RemoteError]]] = {
    400: RemoteConfig,
    401: RemoteAuth,
    403: RemoteAuth,
    404: RemoteMissing,
    408: RemoteTransient,
    409: RemoteName,
    410: RemoteMissing,
    412: RemoteName,
    413: RemoteSpace,
    429: RemoteTransient,
}
_REASONS: Final[Mapping[str, type[RemoteError]]] = {
    "rateLimitExceeded": RemoteTransient,
    "userRateLimitExceeded": RemoteTransient,
    "quotaExceeded": RemoteSpace,
    "retentionPolicyNotMet": RemoteName,
    "objectUnderActiveHold": RemoteName,
}


def meaning(answer: Answer, call: Call, is_fixed: bool) -> RemoteError:
    """Return the error; `is_fixed`: the bucket stands in the options of the host."""
    text, reason = _said(answer.content)
    by_status = _STATUSES.get(answer.status, RemoteError)
    cls = _REASONS.get(reason, RemoteTransient if answer.status >= 500 else by_status)
    if cls is RemoteMissing and "bucket does not exist" in text:
        cls = RemoteConfig if is_fixed else RemoteMissing if call.method == "GET" else RemoteName
    said = f": {text}" if text else ""
    return cls(
        f"{call.about}: {answer.status}{said}",
        phase=Phase.AUTH if cls is RemoteAuth else call.phase,
        remote_code=reason or str(answer.status),
        remote_text=text,
    )


def _said(content: bytes) -> tuple[str, str]:
    """Return message and reason of an answer, cut to 200 letters, empty when it has none."""
    try:
        error: Any = json.loads(content)["error"]
        details = error.get("errors") or [{}]
        return " ".join(str(error.get("message", "")).split())[:200], str(details[0].get("reason"))
    except (ValueError, KeyError, TypeError, AttributeError, IndexError):
        return "", ""
