"""What an error is in S3: a code, a status and a text, as XML.

Spec: portal.md 3.6 (the table of codes); Amazon S3 API Reference, Error Responses.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from ecpds.model import errors
from ecpds.model.errors import EcpdsError, InputError, Unauthenticated
from ecpds.portals.https.exchange import Refused
from ecpds.vfs.contract import client_text

# Codes that this portal itself decides on.
STATUS: Final[Mapping[str, int]] = {
    "AccessDenied": 403,
    "AuthorizationHeaderMalformed": 400,
    "AuthorizationQueryParametersError": 400,
    "BadDigest": 400,
    "BucketAlreadyOwnedByYou": 409,
    "BucketNotEmpty": 409,
    "EntityTooLarge": 400,
    "EntityTooSmall": 400,
    "IncompleteBody": 400,
    "InternalError": 500,
    "InvalidAccessKeyId": 403,
    "InvalidArgument": 400,
    "InvalidBucketName": 400,
    "InvalidChunkSizeError": 403,
    "InvalidDigest": 400,
    "InvalidPart": 400,
    "InvalidPartNumber": 416,
    "InvalidPartOrder": 400,
    "InvalidPolicyDocument": 400,
    "InvalidRange": 416,
    "InvalidRequest": 400,
    "InvalidStorageClass": 400,
    "InvalidTag": 400,
    "InvalidToken": 400,
    "InvalidURI": 400,
    "KeyTooLongError": 400,
    "MalformedPOSTRequest": 400,
    "MalformedXML": 400,
    "MetadataTooLarge": 400,
    "MethodNotAllowed": 405,
    "MissingContentLength": 411,
    "NoSuchBucket": 404,
    "NoSuchBucketPolicy": 404,
    "NoSuchCORSConfiguration": 404,
    "NoSuchKey": 404,
    "NoSuchLifecycleConfiguration": 404,
    "NoSuchObjectLockConfiguration": 404,
    "NoSuchPublicAccessBlockConfiguration": 404,
    "NoSuchTagSet": 404,
    "NoSuchUpload": 404,
    "NoSuchVersion": 404,
    "NoSuchWebsiteConfiguration": 404,
    "NotImplemented": 501,
    "ObjectLockConfigurationNotFoundError": 404,
    "OwnershipControlsNotFoundError": 404,
    "PreconditionFailed": 412,
    "QuotaExceeded": 403,
    "ReplicationConfigurationNotFoundError": 404,
    "RequestTimeTooSkewed": 403,
    "RequestTimeout": 400,
    "ServerSideEncryptionConfigurationNotFoundError": 404,
    "ServiceUnavailable": 503,
    "SignatureDoesNotMatch": 403,
    "SlowDown": 503,
    "XAmzContentSHA256Mismatch": 400,
}

# What errors of the hub are to an S3 client; the closest class counts.
CODES: Final[Mapping[type[EcpdsError], str]] = {
    errors.EcpdsError: "InternalError",
    errors.InputError: "InvalidArgument",
    errors.Unauthenticated: "AccessDenied",
    errors.Denied: "AccessDenied",
    errors.NotFound: "NoSuchKey",
    errors.NotStored: "ServiceUnavailable",
    errors.Conflict: "InvalidRequest",
    errors.Exists: "PreconditionFailed",
    errors.PreconditionFailed: "PreconditionFailed",
    errors.Busy: "SlowDown",
    errors.IsDirectory: "NoSuchKey",
    errors.NotDirectory: "NoSuchKey",
    errors.NotEmpty: "BucketNotEmpty",
    errors.Unsupported: "NotImplemented",
    errors.LimitError: "InvalidRequest",
    errors.QuotaExceeded: "QuotaExceeded",
    errors.TooLarge: "EntityTooLarge",
    errors.TooManyPending: "SlowDown",
    errors.TooManyConnections: "SlowDown",
    errors.StorageFull: "ServiceUnavailable",
    errors.Expired: "AccessDenied",
    errors.Incomplete: "IncompleteBody",
    errors.ChecksumMismatch: "BadDigest",
    errors.Stopping: "ServiceUnavailable",
    errors.StoreError: "ServiceUnavailable",
    errors.RemoteError: "InternalError",
}
_OF_HTTP: Final[Mapping[int, str]] = {
    400: "InvalidRequest",
    405: "MethodNotAllowed",
    408: "RequestTimeout",
    411: "MissingContentLength",
    416: "InvalidRange",
    501: "NotImplemented",
}
_CONSTANT: Final[Mapping[str, str]] = {
    "AccessDenied": "Access Denied",
    "InternalError": "We encountered an internal error. Please try again.",
    "NoSuchBucket": "The specified bucket does not exist",
    "NoSuchKey": "The specified key does not exist.",
}


class S3Error(InputError):
    """An answer that S3 has a code for."""

    code = "s3"

    def __init__(self, name: str, message: str = "", **fields: str) -> None:
        """`fields` are further elements of the answer."""
        super().__init__(message or _CONSTANT.get(name, name))
        self.name = name
        self.fields = fields


class S3Unauthenticated(Unauthenticated):
    """A claim about the caller that does not hold; counted against its address."""

    def __init__(self, name: str, message: str, **fields: str) -> None:
        super().__init__(message)
        self.name = name
        self.fields = fields


def code_of(error: EcpdsError) -> str:
    """Return the code of an error."""
    if isinstance(error, (S3Error, S3Unauthenticated)):
        return error.name
    if isinstance(error, Refused):
        return _OF_HTTP.get(error.status, "InvalidRequest")
    return next(CODES[kind] for kind in type(error).__mro__ if kind in CODES)


def status_of(error: EcpdsError) -> int:
    """Return the HTTP status of an error."""
    if isinstance(error, Refused):
        return error.status
    return STATUS[code_of(error)]


def text_of(error: EcpdsError) -> str:
    """Return what the client may read; what is missing is missing in the same words."""
    code = code_of(error)
    if code in _CONSTANT and not isinstance(error, S3Error):
        return _CONSTANT[code]
    return client_text(error) or code


def fields_of(error: EcpdsError) -> Mapping[str, str]:
    """Return further elements of the answer."""
    return error.fields if isinstance(error, (S3Error, S3Unauthenticated)) else {}
