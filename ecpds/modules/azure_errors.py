"""What failures of an Azure storage account mean.

Spec: Microsoft "Blob service error codes"; transfer-modules.md section 6.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from ecpds.model.errors import (
    Phase,
    RemoteAuth,
    RemoteConfig,
    RemoteError,
    RemoteMissing,
    RemoteName,
    RemoteSpace,
    RemoteTransient,
    RemoteVerify,
)
from ecpds.modules.cloud import Answer, Call

_BY_CLASS: Final[Mapping[type[RemoteError], str]] = {
    RemoteAuth: """
        AccountIsDisabled AuthenticationFailed AuthorizationFailure AuthorizationPermissionMismatch
        AuthorizationProtocolMismatch AuthorizationResourceTypeMismatch AuthorizationServiceMismatch
        AuthorizationSourceIPMismatch InsufficientAccountPermissions InvalidAuthenticationInfo
        KeyBasedAuthenticationNotPermitted NoAuthenticationInformation PublicAccessNotPermitted""",
    RemoteConfig: """
        FeatureVersionMismatch InvalidBlobType InvalidHeaderValue InvalidQueryParameterValue
        MissingRequiredHeader UnsupportedHeader UnsupportedHttpVerb""",
    RemoteMissing: "BlobNotFound ResourceNotFound",
    RemoteName: """
        BlobAlreadyExists InvalidResourceName InvalidUri LeaseIdMissing OutOfRangeInput
        SnapshotsPresent UnauthorizedBlobOverwrite BlobImmutableDueToPolicy""",
    RemoteSpace: "BlockCountExceedsLimit RequestBodyTooLarge UncommittedBlockCountExceedsLimit",
    RemoteVerify: "Crc64Mismatch InvalidBlobOrBlock InvalidBlockId InvalidBlockList Md5Mismatch",
    RemoteTransient: """
        ContainerBeingDeleted ContainerDisabled InternalError OperationTimedOut ServerBusy
        SystemInUse""",
}
CLASSES: Final = {code: cls for cls, codes in _BY_CLASS.items() for code in codes.split()}

_STATUSES: Final[Mapping[int, type[RemoteError]]] = {
    400: RemoteConfig,
    401: RemoteAuth,
    403: RemoteAuth,
    404: RemoteMissing,
    408: RemoteTransient,
    409: RemoteName,
    412: RemoteName,
    413: RemoteSpace,
    429: RemoteTransient,
}


def meaning(answer: Answer, call: Call, is_fixed: bool) -> RemoteError:
    """Return the error; `is_fixed`: the container stands in the options of the host."""
    code = answer.headers.get("x-ms-error-code", "")
    if code == "ContainerNotFound":
        missing = RemoteMissing if call.method in ("GET", "HEAD", "DELETE") else RemoteName
        cls: type[RemoteError] = RemoteConfig if is_fixed else missing
    else:
        by_status = _STATUSES.get(answer.status, RemoteError)
        if answer.status >= 500:
            by_status = RemoteTransient
        cls = CLASSES.get(code, by_status)
    return cls(
        f"{call.about}: {answer.status} {code}".strip(),
        phase=Phase.AUTH if cls is RemoteAuth else call.phase,
        remote_code=code or str(answer.status),
    )
