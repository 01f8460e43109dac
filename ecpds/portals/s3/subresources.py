"""What hangs on buckets and objects: tags, which we keep, and all that is not configured here.

Spec: portal.md 3.6 (bucket sub-resources, tagging).
"""

from __future__ import annotations

from collections.abc import Mapping

from ecpds.portals.s3.attributes import checked_tags
from ecpds.portals.s3.buckets import owner
from ecpds.portals.s3.call import Call
from ecpds.portals.s3.codes import S3Error
from ecpds.portals.s3.documents import read_document
from ecpds.portals.s3.objects import check_version
from ecpds.portals.s3.xml import group, malformed, tag, text_of

# Sub-resource of a bucket to the code of "not configured".
NOT_CONFIGURED: Mapping[str, tuple[str, str]] = {
    "policy": ("NoSuchBucketPolicy", "The bucket policy does not exist"),
    "policyStatus": ("NoSuchBucketPolicy", "The bucket policy does not exist"),
    "cors": ("NoSuchCORSConfiguration", "The CORS configuration does not exist"),
    "lifecycle": (
        "NoSuchLifecycleConfiguration",
        "The lifecycle configuration does not exist",
    ),
    "tagging": ("NoSuchTagSet", "The TagSet does not exist"),
    "encryption": (
        "ServerSideEncryptionConfigurationNotFoundError",
        "The server side encryption configuration was not found",
    ),
    "object-lock": (
        "ObjectLockConfigurationNotFoundError",
        "Object Lock configuration does not exist for this bucket",
    ),
    "website": (
        "NoSuchWebsiteConfiguration",
        "The specified bucket does not have a website configuration",
    ),
    "replication": (
        "ReplicationConfigurationNotFoundError",
        "The replication configuration was not found",
    ),
    "publicAccessBlock": (
        "NoSuchPublicAccessBlockConfiguration",
        "The public access block configuration was not found",
    ),
    "ownershipControls": (
        "OwnershipControlsNotFoundError",
        "The bucket ownership controls were not found",
    ),
}
# Those whose answer is an empty document.
EMPTY: Mapping[str, str] = {
    "versioning": "VersioningConfiguration",
    "notification": "NotificationConfiguration",
    "logging": "BucketLoggingStatus",
    "accelerate": "AccelerateConfiguration",
}
OTHERS = frozenset(
    {"acl", "requestPayment", "analytics", "inventory", "metrics", "intelligent-tiering"}
)
BUCKET = frozenset({*NOT_CONFIGURED, *EMPTY, *OTHERS})
OBJECT = frozenset({"acl", "legal-hold", "retention", "torrent", "restore", "select", "tagging"})


async def get_bucket(call: Call, name: str) -> None:
    """Answer a question for the configuration of a bucket."""
    _ = call.bucket
    if name in EMPTY:
        await call.document(EMPTY[name])
    elif name == "acl":
        await _acl(call)
    elif name == "requestPayment":
        await call.document("RequestPaymentConfiguration", tag("Payer", "BucketOwner"))
    elif name in NOT_CONFIGURED:
        code, text = NOT_CONFIGURED[name]
        raise S3Error(code, text, BucketName=call.address.bucket)
    else:
        raise not_implemented()


def not_implemented() -> S3Error:
    """Return the error for what buckets do not have here."""
    return S3Error("NotImplemented", "A header or query you provided is not implemented here.")


async def _acl(call: Call) -> None:
    login = call.session.profile.user.login
    grantee = (
        '<Grantee xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance" '
        'xsi:type="CanonicalUser">'
        f"{tag('ID', login)}{tag('DisplayName', login)}</Grantee>"
    )
    grant = group("Grant", grantee, tag("Permission", "FULL_CONTROL"))
    await call.document("AccessControlPolicy", owner(call), group("AccessControlList", grant))


async def get_object(call: Call, name: str) -> None:
    """Answer a question about an object beside its content."""
    if name == "tagging":
        await get_tags(call)
    elif name == "acl":
        await call.session.find(call.path())
        await _acl(call)
    elif name in ("legal-hold", "retention"):
        await call.session.find(call.path())
        raise S3Error(
            "NoSuchObjectLockConfiguration",
            "The specified object does not have an ObjectLock configuration",
        )
    else:
        raise not_implemented()


# --- tags ------------------------------------------------------------------------------------


async def get_tags(call: Call) -> None:
    """GetObjectTagging."""
    check_version(call)
    _, kept = await call.session.find(call.path())
    tags = sorted(kept.tags.items())
    shown = [group("Tag", tag("Key", key), tag("Value", text)) for key, text in tags]
    await call.document("Tagging", group("TagSet", *shown))


async def put_tags(call: Call) -> None:
    """PutObjectTagging."""
    check_version(call)
    path = call.path()
    root = await read_document(call, "Tagging")
    sets = [one for one in root if one.tag == "TagSet"]
    if len(sets) != 1:
        raise malformed()
    pairs = [(text_of(one, "Key"), text_of(one, "Value")) for one in sets[0] if one.tag == "Tag"]
    await call.session.set_tags(path, checked_tags(pairs))
    await call.done()


async def delete_tags(call: Call) -> None:
    """DeleteObjectTagging."""
    check_version(call)
    await call.session.set_tags(call.path(), {})
    await call.done(204)
