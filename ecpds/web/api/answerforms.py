"""The fields of each answer: name to form, `?` for null, `[x]` for a list; for the description.

The first of each pair names the body whose fields the answer shows too.  A test compares real
answers with these.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

_STATUS: Final = {
    "status": "text", "light": "text", "queued": "int", "outstanding": "int", "counts": "object",
    "waits_for": "text?", "current_host": "text?", "state_by": "text?", "state_reason": "text?",
    "last_done": "time?", "last_done_id": "int?", "last_failed": "time?", "last_failed_id": "int?",
}  # fmt: skip

FORMS: Final[Mapping[str, tuple[str, Mapping[str, str]]]] = {
    "Problem": ("", {
        "type": "text", "title": "text", "status": "int", "detail": "text", "code": "text",
        "request_id": "text",
    }),
    "Reason": ("", {"class": "text", "phase": "text", "code": "text", "text": "text"}),
    "Transfer": ("", {
        "id": "int", "destination": "text", "target": "text", "status": "text",
        "status_by": "text?", "priority": "int", "size": "int?", "sent": "int", "attempts": "int",
        "requeues": "int", "scheduled": "time", "queue_time": "time", "due": "time",
        "expires": "time", "created": "time", "started": "time?", "finished": "time?",
        "failed": "time?", "duration": "lasting?", "host": "text?", "data_file_id": "int",
        "version": "text?", "identity": "text", "standby": "flag", "asap": "flag",
        "event": "flag", "alias": "flag", "deleted": "flag", "expired": "flag",
        "reason": "Reason?", "comment": "text",
    }),
    "HistoryRow": ("", {
        "time": "time", "status": "text", "host": "text?", "sent": "int", "duration": "lasting?",
        "rate": "number?", "reason": "Reason?", "user": "text?", "error": "flag",
        "comment": "text",
    }),
    "Cause": ("", {
        "code": "text", "text": "text", "until": "time?", "subject": "text", "blocks": "flag",
    }),
    "Explanation": ("", {
        "transfer": "int", "status": "text", "summary": "text", "reasons": "[Cause]",
        "next": "time?", "step": "text",
    }),
    "RuleHit": ("", {"line": "int?", "rule": "text", "applies": "flag", "why": "text?"}),
    "AliasHit": ("", {
        "from": "text", "to": "text", "target": "text", "line": "int?", "rule": "text",
        "applies": "flag", "why": "text?",
    }),
    "PlannedTransfer": ("", {
        "destination": "text", "target": "text", "priority": "int", "scheduled": "time",
        "expires": "time", "standby": "flag", "asap": "flag", "event": "flag", "alias": "flag",
        "no_retrieval": "flag",
    }),
    "HostPath": ("", {
        "host": "text", "path": "text?", "error": "text?", "line": "int?", "rule": "text",
        "score": "int", "default": "flag", "tokens": "object", "appended": "flag",
    }),
    "TextProblem": ("", {
        "field": "text", "line": "int", "column": "int", "text": "text", "error": "flag",
    }),
    "TextProblems": ("", {"ok": "flag", "problems": "[TextProblem]"}),
    "RulesAnswer": ("", {
        "destination": "text", "target": "text", "key": "object?", "duplicates": "[object]",
        "refused": "object?", "force": "RuleHit", "transfers": "[PlannedTransfer]",
        "aliases": "[AliasHit]", "metadata": "object", "product": "object",
        "hosts": "[HostPath]", "problems": "[TextProblem]",
    }),
    "DataFile": ("", {
        "id": "int", "name": "text", "source": "text?", "size": "int?", "checksum": "text?",
        "md5": "text?", "sha256": "text?", "arrived": "time", "file_time": "time?",
        "time_base": "time?", "time_step": "int?", "metadata": "object", "etag": "text",
        "instance": "int?", "stored": "flag", "deleted": "flag", "group": "text?",
        "host": "text?", "submitter": "text?",
    }),
    "Submitted": ("", {
        "data_file": "DataFile", "transfers": "[Transfer]", "updated": "flag", "skipped": "flag",
    }),
    "Upload": ("", {
        "name": "text", "destination": "text", "received": "int", "used": "time",
        "expires": "time",
    }),
    "BatchItem": ("", {"status": "int", "submitted": "Submitted?", "problem": "object?"}),
    "BatchAnswer": ("", {"items": "[BatchItem]"}),
    "Destination": ("Destination", _STATUS),
    "DestinationStatus": ("", {"name": "text"} | _STATUS),
    "HostLink": ("", {"host": "text", "role": "text", "priority": "int"}),
    "Host": ("Host", {
        "has_password": "flag", "destinations": "[text]", "connections": "int", "bytes": "int",
        "error": "text?", "problem": "text?", "checked": "time?", "valid": "flag?",
        "breaker": "Reason?",
    }),
    "HostTest": ("", {
        "ok": "flag", "seconds": "number", "peer": "text", "error": "text?", "phase": "text?",
        "fingerprint": "text?", "round_trip_ms": "number?", "rate": "int?", "by": "text",
        "steps": "[HostTestStep]",
    }),
    "HostTestStep": ("", {
        "step": "text", "outcome": "text", "milliseconds": "number", "text": "text",
        "cause": "text", "advice": "text",
    }),
    "HostReport": ("", {
        "host": "text", "name": "text", "port": "int?", "error": "text?",
        "addresses": "[HostAddress]", "breaker": "Reason?", "hours": "[HostHour]",
    }),
    "HostAddress": ("", {
        "address": "text", "family": "text", "connected": "int", "failed": "int",
        "best_ms": "number?", "average_ms": "number?", "worst_ms": "number?", "error": "text?",
    }),
    "HostHour": ("", {
        "begin": "time", "files": "int", "bytes": "int", "failed": "int", "seconds": "number",
    }),
    "HostPreview": ("", {"host": "text", "files": "[HostExcerpt]"}),
    "HostExcerpt": ("", {
        "name": "text", "size": "int?", "read": "int", "text": "flag", "lines": "[text]",
        "start": "text", "error": "text?",
    }),
    "HostAcquire": ("", {"host": "text", "destinations": "[text]"}),
    "HostLeftovers": ("", {"host": "text", "truncated": "flag", "items": "[Leftover]"}),
    "Leftover": ("", {
        "path": "text", "size": "int", "transfer": "int?", "tries": "int", "time": "time?",
    }),
    "HostClean": ("", {"host": "text", "removed": "int", "left": "int", "error": "text?"}),
    "HostInterrupt": ("", {"host": "text", "destinations": "[text]"}),
    "Script": ("", {
        "ok": "flag", "value": "any", "text": "text?", "output": "text", "error": "text?",
    }),
    "RemoteEntry": ("", {
        "name": "text", "kind": "text", "size": "int?", "time": "time?", "link": "text?",
        "error": "text?",
    }),
    "HostListing": ("", {
        "host": "text", "path": "text", "truncated": "flag", "entries": "[RemoteEntry]",
    }),
    "SearchLine": ("", {"line": "int", "text": "text", "path": "text?", "error": "text?"}),
    "AcquireEntry": ("", {
        "name": "text", "kind": "text", "size": "int?", "time": "time?", "link": "text?",
        "error": "text?", "line": "int", "outcome": "text", "why": "text?", "original": "text?",
        "target": "text?", "key": "object?", "metadata": "text?", "data_file": "int?",
        "destinations": "[text]",
    }),
    "AcquireReport": ("", {
        "host": "text", "destination": "text", "lines": "[SearchLine]", "listed": "int",
        "selected": "int", "outcomes": "object", "errors": "[text]", "entries": "[AcquireEntry]",
        "truncated": "flag",
    }),
    "DataUser": ("DataUser", {
        "s3_keys": "[object]", "has_password": "flag", "has_totp": "flag", "last_login": "time?",
        "last_login_from": "text?",
    }),
    "NewPassword": ("", {"login": "text", "password": "text"}),
    "S3Key": ("", {
        "access_key": "text", "user": "text", "prefix": "text", "read_only": "flag",
        "comment": "text", "subscriber": "int?", "created": "time", "expires": "time?",
        "last_used": "time?",
    }),
    "NewS3Key": ("", {
        "access_key": "text", "user": "text", "prefix": "text", "read_only": "flag",
        "comment": "text", "subscriber": "int?", "created": "time", "expires": "time?",
        "last_used": "time?", "secret": "text",
    }),
    "Policy": ("Policy", {}),
    "WebUser": ("WebUser", {
        "has_password": "flag", "has_totp": "flag", "last_login": "time?",
        "last_login_from": "text?",
    }),
    "ApiUser": ("ApiUser", {"has_password": "flag", "password": "text?"}),
    "MetadataField": ("MetadataField", {}),
    "Storage": ("", {
        "volumes": "[StorageVolume]", "files": "int", "bytes": "int", "room": "int",
        "arrived_last_day": "int", "leaving_next_day": "int", "full_in_days": "number?",
    }),
    "StorageVolume": ("", {
        "name": "text", "total": "int", "room": "int", "reserve": "int", "weight": "int",
        "files": "int", "bytes": "int",
    }),
    "Rate": ("", {
        "key": "text", "destination": "text?", "day": "text?", "files": "int", "bytes": "int",
        "seconds": "number", "rate": "int?",
    }),
    "Statistics": ("", {
        "transfers": "object", "destinations": "object", "hosts": "int", "running": "int",
        "files": "int", "bytes": "int", "sessions": "int",
    }),
    "IncomingRow": ("", {
        "id": "int", "time": "time", "user": "text", "destination": "text", "transfer": "int?",
        "data_file": "int?", "name": "text", "action": "text", "protocol": "text",
        "peer": "text", "bytes": "int", "duration": "lasting", "outcome": "text",
        "comment": "text",
    }),
    "ReachedBy": ("", {
        "login": "text", "active": "flag", "service": "text", "origins": "[text]",
    }),
    "JobCount": ("", {"total": "int", "total_is_minimum": "flag"}),
    "Country": ("", {"iso": "text", "name": "text"}),
    "DestinationType": ("", {"name": "text", "destinations": "int"}),
    "Attempt": ("", {
        "host": "text", "protocol": "text", "started": "time", "finished": "time",
        "status": "text", "size": "int?", "sent": "int", "peer": "text?", "path": "text?",
        "statistics": "object", "filters": "text?", "resumed_at": "int",
    }),
    "Webhook": ("Webhook", {
        "has_secret": "flag", "owner": "text", "sent": "int", "tries": "int", "error": "text?",
        "failing_since": "time?", "due": "time?", "disabled": "flag", "behind": "int",
    }),
    "NewWebhook": ("Webhook", {
        "has_secret": "flag", "owner": "text", "sent": "int", "tries": "int", "error": "text?",
        "failing_since": "time?", "due": "time?", "disabled": "flag", "behind": "int",
    }),
    "DestinationMetadata": ("", {"destination": "text", "metadata": "object"}),
    "Role": ("Role", {"built_in": "flag"}),
    "Token": ("", {
        "id": "int", "name": "text", "owner": "text", "scopes": "[text]", "objects": "[text]",
        "networks": "[text]", "expires": "time?", "last_used": "time?", "last_address": "text?",
    }),
    "NewToken": ("", {
        "id": "int", "name": "text", "owner": "text", "scopes": "[text]", "objects": "[text]",
        "networks": "[text]", "expires": "time?", "last_used": "time?", "last_address": "text?",
        "token": "text",
    }),
    "Certificate": ("", {
        "subject": "text", "issuer": "text", "names": "[text]", "begins": "time", "ends": "time",
        "serial": "text", "sha256": "text", "self_signed": "flag", "path": "text",
    }),
    "CertificateRequested": ("", {"request": "text"}),
    "MailTried": ("", {"message": "text"}),
    "WebSession": ("", {
        "id": "text", "user": "text", "peer": "text", "since": "time", "used": "time",
        "expires": "time", "present": "flag",
    }),
    "SessionsEnded": ("", {"ended": "int"}),
    "Replica": ("", {
        "place": "text", "name": "text", "path": "text?", "destination": "text?",
        "state": "text", "tries": "int", "error": "text?",
    }),
    "Module": ("", {
        "name": "text", "method": "text", "options": "text", "features": "[text]",
    }),
    "Quota": ("", {
        "kind": "text", "name": "text", "direction": "text", "limit": "int",
        "period": "lasting", "used": "int", "left": "int",
    }),
    "Traffic": ("", {
        "key": "text", "files": "int", "uploaded": "int", "downloaded": "int",
        "seconds": "number", "rate": "int?",
    }),
    "Session": ("", {
        "id": "int", "user": "text", "protocol": "text", "peer": "text", "since": "time",
        "used": "time", "uploads": "int", "downloads": "int",
    }),
    "TrafficSum": ("", {
        "user": "text", "protocol": "text", "direction": "text", "start": "time", "files": "int",
        "bytes": "int", "failed": "int", "seconds": "number",
    }),
    "Subscriber": ("", {
        "id": "int", "user": "text", "email": "text", "name": "text", "country": "text",
        "active": "flag", "verified": "flag", "created": "time", "changed": "time",
        "password": "text?",
    }),
    "Publication": ("", {
        "id": "int", "driver": "text", "destination": "text", "transfer": "int?",
        "event": "text", "state": "text", "tries": "int", "error": "text?", "due": "time",
        "expires": "time?", "created": "time", "sent": "time?", "topic": "text?",
        "payload": "text?",
    }),
    "PublishedMessage": ("", {
        "topic": "text", "payload": "text", "qos": "int", "retain": "flag", "expires": "time?",
        "content_type": "text?",
    }),
    "Wis2RecordRow": ("", {
        "id": "text", "title": "text", "changed": "time", "announced": "time?",
    }),
    "Wis2Finding": ("", {"requirement": "text", "severity": "text", "text": "text"}),
    "Wis2Report": ("", {"valid": "flag", "findings": "[Wis2Finding]"}),
    "RetainedMessage": ("", {
        "topic": "text", "payload": "text", "qos": "int", "retain": "flag", "expires": "time?",
        "content_type": "text?", "destination": "text?", "transfer": "int?",
    }),
    "MosquittoFiles": ("", {
        "passwords": "text", "acl": "text", "users": "[text]", "left_out": "[object]",
    }),
    "MqttClient": ("", {
        "user": "text", "client": "text", "connected": "flag", "peer": "text?",
        "version": "text?", "since": "time?", "subscriptions": "[text]", "queued": "int",
        "in_flight": "int", "sent": "int", "dropped": "int", "ends": "time?",
    }),
    "Ban": ("", {"address": "text", "until": "time", "reason": "text"}),
    "Option": ("", {
        "key": "text", "type": "text", "default": "text", "help": "text", "secret": "flag",
        "scopes": "[text]",
    }),
    "Status": ("", {"name": "text", "code": "text", "label": "text"}),
    "Method": ("", {"name": "text"}),
    "Versions": ("", {"versions": "[object]", "release": "text"}),
    "Whoami": ("", {"name": "text", "kind": "text", "grants": "[object]", "limits": "object"}),
    "SiteChanges": ("", {"changes": "[object]"}),
    "Site": ("", {}),
    "Config": ("", {}),
    "Event": ("", {"number": "int", "id": "text", "type": "text"}),
    "Change": ("", {
        "id": "int", "time": "time", "actor": "text", "peer": "text?", "action": "text",
        "kind": "text", "name": "text", "difference": "object", "outcome": "text",
        "comment": "text",
    }),
    "Incident": ("", {
        "id": "int", "kind": "text", "subject_kind": "text", "subject": "text",
        "severity": "text", "text": "text", "open": "flag", "first_seen": "time",
        "last_seen": "time", "count": "int", "acknowledged_by": "text?",
        "acknowledged": "time?", "note": "text", "muted_until": "time?", "muted_by": "text?",
        "resolved": "time?",
    }),
    "Volume": ("", {
        "name": "text", "files": "int", "bytes": "int", "room": "int", "reserve": "int",
        "weight": "int",
    }),
    "Job": ("", {
        "id": "int", "verb": "text", "state": "text", "total": "int", "total_is_minimum": "flag",
        "done": "int", "skipped": "int", "failed": "int", "errors": "[object]",
        "request": "object", "by": "text", "created": "time", "updated": "time", "ended": "time?",
    }),
    "Group": ("", {
        "name": "text", "files": "int", "done": "int", "waiting": "int", "failed": "int",
        "retrying": "int", "bytes": "int", "complete": "flag", "since": "time",
    }),
    "GroupStatus": ("", {
        "name": "text", "files": "int", "done": "int", "waiting": "int", "failed": "int",
        "retrying": "int", "bytes": "int", "complete": "flag", "since": "time",
        "waiting_files": "[GroupFile]", "failed_files": "[GroupFile]",
    }),
    "GroupFile": ("", {
        "data_file_id": "int", "source": "text", "size": "int?", "state": "text", "host": "text?",
        "submitter": "text?", "from": "text?", "tries": "int", "received": "int?",
        "reason": "Reason?",
    }),
    "Product": ("", {
        "id": "int", "product": "text", "time": "text", "step": "int", "type": "text?",
        "status": "text", "schedule": "time?", "base": "time?", "buffer": "lasting",
        "updated": "time",
    }),
    "ProductTime": ("", {
        "product": "text", "time": "text", "expected": "int", "started": "int",
        "completed": "int", "late": "int", "base": "time?", "updated": "time",
    }),
    "ProductReported": ("", {"outcome": "text", "message": "text", "product": "Product?"}),
    "ProductsReset": ("", {"removed": "int", "message": "text"}),
    "Retrieval": ("", {
        "stopped": "flag", "streams": "int", "running": "int", "stream_timeout": "lasting?",
    }),
    "OpenApi": ("", {}),
}  # fmt: skip
