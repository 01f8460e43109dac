"""What failures of S3 and STS mean.

Spec: AWS "S3 error responses"; transfer-modules.md section 6.
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

_BY_CLASS: Final[Mapping[type[RemoteError], str]] = {
    RemoteAuth: """
        AccessDenied AccessDeniedException AccountProblem AllAccessDisabled ExpiredToken
        ExpiredTokenException IncompleteSignature InvalidAccessKeyId InvalidClientTokenId
        InvalidIdentityToken InvalidPayer InvalidSecurity InvalidToken MissingAuthenticationToken
        NotSignedUp SignatureDoesNotMatch TokenRefreshRequired UnauthorizedAccess""",
    RemoteConfig: """
        AuthorizationHeaderMalformed IllegalLocationConstraintException InvalidArgument
        InvalidBucketName InvalidEncryptionAlgorithmError InvalidLocationConstraint InvalidRequest
        InvalidStorageClass InvalidTag KMS.DisabledException KMS.NotFoundException MalformedXML
        MethodNotAllowed MissingSecurityHeader NotImplemented PermanentRedirect RegionDisabled
        RequestTimeTooSkewed RequestExpired TooManyBuckets UnsupportedOperation
        UserKeyMustBeSpecified ValidationError""",
    RemoteMissing: "NoSuchKey NoSuchUpload NoSuchVersion NotFound",
    RemoteName: """
        BucketAlreadyExists BucketNotEmpty ConditionalRequestConflict InvalidObjectName
        InvalidObjectState InvalidURI KeyTooLong KeyTooLongError MetadataTooLarge
        ObjectAlreadyExists ObjectExistsAsDirectory ParentIsObject PreconditionFailed
        XMinioObjectExistsAsDirectory XMinioParentIsObject""",
    RemoteSpace: """
        EntityTooLarge InsufficientStorage MaxMessageLengthExceeded QuotaExceeded
        ServiceQuotaExceededException StorageFull XMinioAdminBucketQuotaExceeded
        XMinioStorageFull""",
    RemoteVerify: """
        BadDigest EntityTooSmall InvalidDigest InvalidPart InvalidPartOrder
        XAmzContentChecksumMismatch XAmzContentSHA256Mismatch""",
    RemoteTransient: """
        BandwidthLimitExceeded IncompleteBody InternalError OperationAborted RequestLimitExceeded
        RequestThrottled RequestTimeout ServerBusy ServiceUnavailable SlowDown SlowDownRead
        SlowDownWrite TemporaryRedirect Throttling ThrottlingException TooManyRequests""",
}
CLASSES: Final = {code: cls for cls, codes in _BY_CLASS.items() for code in codes.split()}

_STATUSES: Final[Mapping[int, type[RemoteError]]] = {
    301: RemoteConfig,
    400: RemoteConfig,
    401: RemoteAuth,
    403: RemoteAuth,
    404: RemoteMissing,
    405: RemoteConfig,
    408: RemoteTransient,
    409: RemoteName,
    411: RemoteConfig,
    412: RemoteName,
    413: RemoteSpace,
    416: RemoteVerify,
    429: RemoteTransient,
    501: RemoteConfig,
    507: RemoteSpace,
}

EXPIRED: Final = frozenset({"ExpiredToken", "ExpiredTokenException", "TokenRefreshRequired"})


def meaning(code: str, status: int) -> type[RemoteError]:
    """Return the class of a failure."""
    found = CLASSES.get(code) or _STATUSES.get(status)
    return found or (RemoteTransient if status >= 500 else RemoteError)


def failure(
    cls: type[RemoteError], about: str, *, status: int, code: str, text: str, phase: Phase
) -> RemoteError:
    """Return the error; `text` is what the service says, without secrets and cut to 200 letters."""
    said = " ".join(text.split())[:200]
    parts = [part for part in (f"{status} {code}".strip(), said) if part]
    return cls(
        f"{about}: {': '.join(parts)}",
        phase=Phase.AUTH if cls is RemoteAuth else phase,
        remote_code=code or str(status),
        remote_text=said,
    )
