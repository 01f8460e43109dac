"""Which handler answers an S3 request, in whose session, and what becomes of an error.

Every request is a session of its own: verify, log in, act, close.  Spec: portal.md 1.5 and 3.6.
"""

from __future__ import annotations

import random
from collections.abc import Awaitable, Callable, Mapping, Sequence
from datetime import timedelta

from ecpds.base.clock import Clock
from ecpds.base.logs import get_logger
from ecpds.base.settings import S3Settings
from ecpds.base.threads import Threads
from ecpds.model.account import Protocol
from ecpds.model.errors import EcpdsError, Unauthenticated
from ecpds.portals.https.exchange import HOST, Answer, Ask, Refused, Reply
from ecpds.portals.https.head import has_content
from ecpds.portals.s3 import buckets, codes, cors, forms, signature, subresources, xml
from ecpds.portals.s3.call import Address, Call
from ecpds.portals.s3.codes import S3Error
from ecpds.portals.s3.forms import Form, Forms
from ecpds.portals.s3.multipart import Multipart
from ecpds.portals.s3.objects import Objects
from ecpds.portals.s3.signature import UNSIGNED, Signatures, Signer
from ecpds.portals.s3.writing import Writing
from ecpds.portals.s3.xml import maybe, tag
from ecpds.vfs.contract import Anonymous, Credential, Gate, KeyPair
from ecpds.vfs.s3contract import ObjectSession

log = get_logger(__name__)

PREFIX = "/s3"
SLOW_DOWN = 1  # seconds after which a client should come again

Handler = Callable[[Call], Awaitable[None]]


class S3Service:
    """Answers S3 requests; knows nothing of sockets."""

    def __init__(
        self,
        gate: Gate,
        settings: S3Settings,
        threads: Threads,
        clock: Clock,
        *,
        prefix: str = "",
        hosts: Sequence[str] = (),
    ) -> None:
        """`prefix`: of the path, before the bucket.  `hosts`: whose subdomains are buckets."""
        self._gate = gate
        self._clock = clock
        self._prefix = prefix
        self._hosts = tuple(f".{host.lower().strip('.')}" for host in hosts if host)
        self._random = random.Random()  # noqa: S311 - names requests, guards nothing
        self._signer = Signer()
        self._objects = Objects()
        self._writing = Writing(threads, clock)
        self._multipart = Multipart(threads, clock)
        self._forms = Forms(threads, clock)
        self.take(settings)

    def take(self, settings: S3Settings) -> None:
        """Use other settings from the next request on."""
        self._region = settings.region
        self._skew: timedelta = settings.clock_skew
        self._cors = settings.cors_allow_origin

    def claims(self, ask: Ask) -> bool:
        """Tell whether a request is for S3, on an address that others share."""
        target = ask.target
        if target.startswith(self._prefix) and target[
            len(self._prefix) : len(self._prefix) + 1
        ] in (
            "/",
            "?",
            "",
        ):
            return True
        return bool(self._hosts) and self._virtual(ask) != ""

    def _virtual(self, ask: Ask) -> str:
        """Return the bucket that the host names, empty for none."""
        host = ask.host_name.lower()
        for suffix in self._hosts:
            if host.endswith(suffix) and len(host) > len(suffix):
                return ask.host_name[: -len(suffix)]
        return ""

    def address(self, ask: Ask) -> Address:
        """Return bucket and key of a request."""
        path, virtual = ask.path, self._virtual(ask)
        if virtual:
            return Address(bucket=virtual, key=path[1:])
        if self._prefix and (path + "/").startswith(f"{self._prefix}/"):
            path = path[len(self._prefix) :]
        bucket, _, key = path.removeprefix("/").partition("/")
        return Address(bucket=bucket, key=key, prefix=self._prefix)

    # --- one request ---------------------------------------------------------------------

    async def serve(self, ask: Ask, reply: Reply) -> None:
        """Answer one request; errors are told unless a status line is out already."""
        number = f"{self._random.getrandbits(64):016X}"
        try:
            await self._serve(ask, reply, number)
        except EcpdsError as error:
            if reply.started:
                raise
            await reply.send(self._told(ask, error, number))
        except ConnectionError:
            raise
        except Exception as error:
            if reply.started:
                raise
            log.error("request failed", exc=error, peer=ask.peer)  # noqa: TRY400 - see `exc`
            await reply.send(self._told(ask, EcpdsError("Internal error"), number))

    async def _serve(self, ask: Ask, reply: Reply, number: str) -> None:
        _check(ask)
        if ask.method == "OPTIONS" and self._cors:
            await reply.send(cors.preflight(ask, self._cors))
            return
        address, query = self.address(ask), ask.query
        keep = Signatures()
        now = self._clock.now()
        claim = signature.read(ask, query, now=now, skew=self._skew)
        form = await self._form(ask, address) if claim is None else None
        credential: Credential
        if claim is not None:
            credential = self._signer.pair(ask, claim, keep, self._prefix)
        else:
            found = forms.key_pair(form, self._signer) if form is not None else None
            credential = found or Anonymous()
        user = credential.access_key if isinstance(credential, KeyPair) else address.bucket
        if not user:
            raise S3Error("AccessDenied", "Buckets are listed for those who sign.")
        session = await self._login(user, credential, ask)
        async with session:
            call = Call(
                ask=ask, query=query, address=address, session=session, reply=reply,
                number=number, signatures=keep, region=self._region,
                payload=claim.payload if claim is not None else _unsigned(ask),
                is_signed=isinstance(credential, KeyPair),
            )  # fmt: skip
            if "origin" in ask.headers:
                wanted = session.options.get("portal.corsAllowOrigin", "") or self._cors
                call.fields |= cors.fields(ask, wanted)
            self._check_owner(call)
            if form is not None:
                await self._forms.store(call, form)
            else:
                await self._handler(call)(call)

    async def _login(self, user: str, credential: Credential, ask: Ask) -> ObjectSession:
        try:
            session = await self._gate.login(user, credential, protocol=Protocol.S3, peer=ask.peer)
        except Unauthenticated as error:
            if isinstance(error, codes.S3Unauthenticated) or isinstance(credential, KeyPair):
                raise
            raise S3Error("AccessDenied") from None
        if not isinstance(session, ObjectSession):
            await session.close()
            raise S3Error("NotImplemented")
        return session

    async def _form(self, ask: Ask, address: Address) -> Form | None:
        kind = ask.headers.get("content-type", "")
        if ask.method != "POST" or address.key or not kind.startswith("multipart/form-data"):
            return None
        return await forms.open_form(kind, ask.body)

    def _check_owner(self, call: Call) -> None:
        expected = call.header("x-amz-expected-bucket-owner")
        if expected and expected != call.session.profile.user.login:
            raise S3Error("AccessDenied")

    # --- choosing ------------------------------------------------------------------------

    def _handler(self, call: Call) -> Handler:
        if not call.address.bucket:
            if call.ask.method in ("GET", "HEAD"):
                return buckets.list_buckets
            raise _not_allowed()
        if not call.key:
            return self._of_bucket(call)
        return self._of_object(call)

    def _of_bucket(self, call: Call) -> Handler:
        method, query = call.ask.method, call.query
        name = next((one for one in subresources.BUCKET if one in query), "")
        if method == "GET":
            return self._get_bucket(query, name)
        if method == "HEAD":
            return buckets.head_bucket
        if method == "POST" and "delete" in query:
            return self._objects.delete_many
        if method in ("PUT", "DELETE") and name:
            return _nothing_to_delete if method == "DELETE" else _refuse
        if method == "PUT":
            return buckets.create_bucket
        if method == "DELETE":
            return buckets.delete_bucket
        raise _not_allowed()

    def _get_bucket(self, query: Mapping[str, str], name: str) -> Handler:
        if name:
            return lambda call: subresources.get_bucket(call, name)
        if "location" in query:
            return buckets.location
        if "uploads" in query:
            return self._multipart.list_uploads
        if "versions" in query:
            return buckets.list_versions
        kind = query.get("list-type", "1")
        if kind not in ("1", "2"):
            raise S3Error("InvalidArgument", "list-type is 2, or missing.")
        return buckets.list_objects_2 if kind == "2" else buckets.list_objects

    def _of_object(self, call: Call) -> Handler:
        handlers: Mapping[str, Callable[[Call], Handler]] = {
            "GET": self._get_object,
            "HEAD": lambda call: self._objects.head,
            "PUT": self._put_object,
            "POST": self._post_object,
            "DELETE": self._delete_object,
        }
        chosen = handlers.get(call.ask.method)
        if chosen is None:
            raise _not_allowed()
        return chosen(call)

    def _get_object(self, call: Call) -> Handler:
        query = call.query
        name = next((one for one in subresources.OBJECT if one in query), "")
        if name:
            return lambda call: subresources.get_object(call, name)
        if "uploadId" in query:
            return self._multipart.list_parts
        return self._objects.attributes if "attributes" in query else self._objects.get

    def _put_object(self, call: Call) -> Handler:
        query = call.query
        if "uploadId" in query:
            return self._multipart.put_part
        if "tagging" in query:
            return subresources.put_tags
        if any(name in query for name in subresources.OBJECT):
            return _refuse
        return self._writing.put

    def _post_object(self, call: Call) -> Handler:
        query = call.query
        if "uploads" in query:
            return self._multipart.create
        if "uploadId" in query:
            return self._multipart.complete
        if any(name in query for name in subresources.OBJECT):
            return _refuse
        raise _not_allowed()

    def _delete_object(self, call: Call) -> Handler:
        if "uploadId" in call.query:
            return self._multipart.abort
        return subresources.delete_tags if "tagging" in call.query else self._objects.delete

    # --- errors --------------------------------------------------------------------------

    def _told(self, ask: Ask, error: EcpdsError, number: str) -> Answer:
        status = codes.status_of(error)
        headers = {"x-amz-request-id": number, "Content-Type": xml.TYPE}
        if isinstance(error, Refused):
            headers |= error.fields
        headers |= cors.fields(ask, self._cors)
        if status == 503:
            wait = error.facts.get("retry_after")
            headers["Retry-After"] = str(int(wait) if isinstance(wait, (int, float)) else SLOW_DOWN)
        parts = [tag("Code", codes.code_of(error)), tag("Message", codes.text_of(error))]
        parts += [maybe(name, text) for name, text in codes.fields_of(error).items()]
        parts += [tag("Resource", _resource(ask)), tag("RequestId", number)]
        body = f"{xml.HEAD}<Error>{''.join(parts)}</Error>".encode("utf-8", "replace")
        answer = Answer(status=status, headers=headers, body=body)
        if not has_content(answer, ask.method):
            answer.body = b""
        # the rest of a refused upload is not worth its time
        answer.close = ask.body.present and not ask.body.complete
        return answer


def _resource(ask: Ask) -> str:
    """Return the path as it was asked for; characters that XML cannot hold are left out."""
    return "".join(c if c.isprintable() else "?" for c in ask.raw_path[:1024])


def _unsigned(ask: Ask) -> str:
    """Return what an unsigned request says of its content."""
    text = ask.headers.get("x-amz-content-sha256", UNSIGNED)
    if text.startswith("STREAMING-AWS4"):
        raise S3Error("AccessDenied", "Signed chunks need a signed request.")
    return text


async def _refuse(call: Call) -> None:
    _ = call.bucket
    raise subresources.not_implemented()


async def _nothing_to_delete(call: Call) -> None:
    _ = call.bucket
    await call.done(204)


def _not_allowed() -> S3Error:
    return S3Error("MethodNotAllowed", "The specified method is not allowed against this resource.")


def _check(ask: Ask) -> None:
    """Refuse what no handler should have to think of."""
    if ask.fault:
        raise Refused(ask.fault, "the request cannot be read")
    if not HOST.fullmatch(ask.host):
        raise S3Error("InvalidRequest", "the Host field cannot be read")
    if ask.headers.get("expect", "").strip().lower() not in ("", "100-continue"):
        raise Refused(417, "only 100-continue can be expected")
