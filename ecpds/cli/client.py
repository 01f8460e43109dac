"""Talks to a running node through its JSON API."""

from __future__ import annotations

import http.client
import json
import ssl
import time
from argparse import Namespace
from collections.abc import Generator, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, Final, Self
from urllib.parse import quote, urlencode, urlsplit

from ecpds.cli.access import ANSWER_TIME, Access, Retry, find
from ecpds.cli.codes import CommandError, Exit, of_answer
from ecpds.cli.upload import BLOCK, Form

API: Final = "/api/v2"
MOST_ANSWER: Final = 64 * 1024 * 1024  # bytes of one JSON answer
SOON: Final = 4  # seconds; a node that wants requests to come slower says 1, a quota 5 and more
MOST_PATIENCE: Final = 120  # seconds that one request waits for that
IDLE: Final = 5.0  # seconds after which the node may have closed the connection
REPEATABLE: Final = frozenset({"GET", "PUT", "PATCH", "DELETE"})
_END = "-----END CERTIFICATE-----"


class Unreachable(CommandError):
    """The node did not answer; `whole` when it may have got the whole request."""

    def __init__(self, message: str, *, whole: bool) -> None:
        super().__init__(message, Exit.UNREACHABLE)
        self.whole = whole


class Client:
    """One connection to the API, opened at the first request and again when it was lost."""

    def __init__(
        self, access: Access, *, timeout: float = ANSWER_TIME, retry: Retry | None = None
    ) -> None:
        self._access, self._timeout = access, timeout
        self._retry = retry or Retry()
        self._connection: http.client.HTTPConnection | None = None
        self._used_at = 0.0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the connection; may be called twice."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    # --- requests ---------------------------------------------------------------------------

    def call(
        self,
        method: str,
        path: str,
        *,
        body: Any = None,
        query: Mapping[str, Any] | None = None,
        match: str = "",
        headers: Mapping[str, str] | None = None,
    ) -> Any:
        """Send one request below `/api/v2`; return the decoded answer, None for 204.

        `match` is the If-Match header, `*` changes an object whatever its version.
        """
        given = dict(headers or {}) | ({"If-Match": match} if match else {})
        data = b""
        if body is not None:
            data = json.dumps(body, default=str).encode()
            given["Content-Type"] = "application/json"
        if data or method not in {"GET", "DELETE"}:
            given["Content-Length"] = str(len(data))
        response = self._request(
            method, _address(path, query), given, [data] if data else [],
            again=method in REPEATABLE,
        )  # fmt: skip
        return self._answer(response)

    def items(self, path: str, query: Mapping[str, Any] | None = None) -> Iterator[dict[str, Any]]:
        """Yield all items of a list, page by page."""
        cursor: str | None = None
        while True:
            page = self.call("GET", path, query={"limit": 500, **(query or {}), "cursor": cursor})
            yield from page["items"]
            cursor = page.get("next_cursor")
            if not cursor:
                return

    def upload(self, path: str, form: Form) -> Any:
        """POST a form with a file, streamed; return the decoded answer."""
        headers = {"Content-Type": form.content_type}
        if form.length is None:
            headers["Transfer-Encoding"] = "chunked"
        else:
            headers["Content-Length"] = str(form.length)
        return self._answer(self._request("POST", API + path, headers, form, again=False))

    def append(self, path: str, offset: int, size: int, blocks: Iterable[bytes]) -> Any:
        """Send `size` bytes to an upload behind `offset`, once; return the decoded answer."""
        headers = {"Content-Type": "application/octet-stream", "Content-Length": str(size)}
        address = _address(path, {"offset": offset})
        response = self._send("PATCH", address, headers, blocks)
        return self._answer(response)

    def download(self, path: str) -> Generator[bytes, None, None]:
        """Yield content block by block; CommandError when fewer bytes come than were promised."""
        response = self._request("GET", API + path, {"Accept": "*/*"}, [], again=True)
        if response.status != 200:
            self._answer(response)
        left = int(response.headers["Content-Length"])
        try:
            while block := self._block(response):
                left -= len(block)
                yield block
        finally:
            if left:  # the rest would spoil the next answer
                self.close()
        if left:
            raise self._lost(f"{left} bytes are missing", whole=True)

    def _block(self, response: http.client.HTTPResponse) -> bytes:
        try:
            return response.read(BLOCK)
        except TimeoutError:
            raise self._too_late() from None
        except (OSError, http.client.HTTPException) as error:
            raise self._lost(error, whole=True) from None

    def readiness(self) -> dict[str, Any]:
        """Return what `/readyz` tells, ready or not."""
        response = self._request("GET", "/readyz", {}, [], again=True)
        found: dict[str, Any] = decoded(200, self._read(response))
        return found

    def probe(self) -> None:
        """Connect; CommandError (unreachable) when nobody listens."""
        self._open()

    def _request(
        self,
        method: str,
        address: str,
        headers: Mapping[str, str],
        body: Iterable[bytes] | Form,
        *,
        again: bool,
    ) -> http.client.HTTPResponse:
        """Send a request until it is answered, as often as was asked for.

        Without `again` it is repeated only when it cannot have been carried out.
        """
        may_repeat = not isinstance(body, Form) or body.can_repeat
        left = self._retry.count if may_repeat else 0
        patience = MOST_PATIENCE if may_repeat else 0
        while True:
            try:
                response = self._send(method, address, headers, body)
            except Unreachable as error:
                if not left or (error.whole and not again):
                    raise
            else:
                if (wait := _soon(response)) and patience >= wait:
                    patience -= wait
                    self._read(response)
                    time.sleep(wait)
                    continue
                if not left or response.status != 503:
                    return response
                self.close()
            left -= 1
            time.sleep(self._retry.delay)

    def _send(
        self, method: str, address: str, headers: Mapping[str, str], body: Iterable[bytes] | Form
    ) -> http.client.HTTPResponse:
        connection = self._open()
        is_answered = False
        try:
            response = self._exchange(connection, method, address, headers, body)
            is_answered = True
        finally:
            if not is_answered:  # also after Ctrl-C: half a request would spoil the next one
                self.close()
        self._used_at = time.monotonic()
        return response

    def _exchange(
        self,
        connection: http.client.HTTPConnection,
        method: str,
        address: str,
        headers: Mapping[str, str],
        body: Iterable[bytes] | Form,
    ) -> http.client.HTTPResponse:
        credential = f"{self._access.scheme} {self._access.token}"
        given = {"Authorization": credential, "Accept": "application/json"}
        given |= headers
        whole = False
        try:
            connection.putrequest(method, address, skip_accept_encoding=True)
            for name, value in given.items():
                connection.putheader(name, value)
            connection.endheaders()
            _send_body(connection, body, chunked="Transfer-Encoding" in given)
            whole = True
            return connection.getresponse()
        except TimeoutError:
            raise self._too_late() from None
        except (OSError, http.client.HTTPException) as error:
            if not whole and (early := _early_answer(connection)) is not None:
                return early
            raise self._lost(error, whole=whole) from None

    def _too_late(self) -> CommandError:
        return CommandError(f"no answer within {self._timeout:g} s", Exit.TIMEOUT)

    def _lost(self, error: object, *, whole: bool) -> Unreachable:
        text = str(error) or type(error).__name__
        return Unreachable(f"lost the connection to {self._access.server}: {text}", whole=whole)

    # --- connection -------------------------------------------------------------------------

    def _open(self) -> http.client.HTTPConnection:
        if self._connection is not None and time.monotonic() - self._used_at > IDLE:
            self.close()
        if self._connection is None:
            made = self._made()
            try:
                made.connect()
            except (OSError, UnicodeError) as error:  # UnicodeError: a host name too long
                made.close()
                raise Unreachable(self._refusal(error), whole=False) from None
            self._connection = made
            self._used_at = time.monotonic()
        return self._connection

    def _made(self) -> http.client.HTTPConnection:
        parts = urlsplit(self._access.server)
        host, port = parts.hostname or "", parts.port
        if parts.scheme == "http":
            return http.client.HTTPConnection(host, port, timeout=self._timeout)
        context = tls_context(self._access)
        return http.client.HTTPSConnection(host, port, timeout=self._timeout, context=context)

    def _refusal(self, error: Exception) -> str:
        text = f"{self._access.server} cannot be reached: {error}"
        if isinstance(error, ssl.SSLCertVerificationError):
            text += "; name its certificate with --ca, or use --insecure"
        return text

    def _answer(self, response: http.client.HTTPResponse) -> Any:
        return decoded(response.status, self._read(response))

    def _read(self, response: http.client.HTTPResponse) -> bytes:
        try:
            data = response.read(MOST_ANSWER + 1)
        except TimeoutError:
            self.close()
            raise self._too_late() from None
        except (OSError, http.client.HTTPException) as error:
            self.close()
            raise self._lost(error, whole=True) from None
        if response.will_close or len(data) > MOST_ANSWER:
            self.close()
        return data


def connect(args: Namespace, timeout: float | None = None, retry: Retry | None = None) -> Client:
    """Return a client for the arguments; `timeout` in seconds replaces `--timeout`."""
    return Client(
        find(args), timeout=timeout or args.timeout or ANSWER_TIME, retry=retry or args.retry
    )


def tls_context(access: Access) -> ssl.SSLContext:
    """Return what a connection trusts: one certificate, those of `--ca`, or those of the system."""
    if access.insecure:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
        return context
    try:
        if access.own is not None:
            return _only(access.own)
        if access.ca is not None:
            context = ssl.create_default_context(cafile=str(access.ca))
            context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN  # a leaf may be named, too
            return context
    except (OSError, ssl.SSLError) as error:
        path = access.own or access.ca
        raise CommandError(f"{path} is no usable certificate: {error}", Exit.USAGE) from None
    return ssl.create_default_context()


def _soon(response: http.client.HTTPResponse) -> int:
    """Return the seconds after which a request that came too fast is taken; 0: it is no such."""
    text = response.getheader("Retry-After", "") if response.status == 429 else ""
    wait = int(text) if text.isascii() and text.isdigit() and len(text) < 4 else 0
    return wait if wait <= SOON else 0


def _only(path: Path) -> ssl.SSLContext:
    """Trust exactly the first certificate of a file, whatever names it has."""
    leaf, end, _ = path.read_text(encoding="ascii", errors="replace").partition(_END)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.load_verify_locations(cadata=leaf + end)
    context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    return context


def _address(path: str, query: Mapping[str, Any] | None) -> str:
    wanted = {key: value for key, value in (query or {}).items() if value is not None}
    return API + path + (f"?{urlencode(wanted)}" if wanted else "")


def _send_body(
    connection: http.client.HTTPConnection, body: Iterable[bytes] | Form, *, chunked: bool
) -> None:
    blocks = body.blocks() if isinstance(body, Form) else body
    for block in blocks:
        connection.send(b"%x\r\n%b\r\n" % (len(block), block) if chunked else block)
    if chunked:
        connection.send(b"0\r\n\r\n")


def _early_answer(connection: http.client.HTTPConnection) -> http.client.HTTPResponse | None:
    """Return what the node said before it stopped reading the body, None if nothing."""
    try:
        return connection.getresponse()
    except (OSError, http.client.HTTPException):
        return None


def decoded(status: int, data: bytes) -> Any:
    """Return the JSON of an answer; CommandError for a problem, with the node's own words."""
    try:
        value = json.loads(data) if data else None
    except ValueError:
        value = None
    if status < 300:
        if data and value is None:
            raise CommandError("the answer is too long or no JSON", Exit.UNEXPECTED)
        return value
    raise refusal(status, value if isinstance(value, dict) else {})


def refusal(status: int, problem: Mapping[str, Any]) -> CommandError:
    """Return the error of a problem document."""
    code = str(problem.get("code") or "")
    text = str(problem.get("detail") or problem.get("title") or f"HTTP {status}")
    for error in problem.get("errors") or []:
        message = str(error.get("message", ""))
        if message not in text:
            text += f"\n  {error.get('pointer', '')}: {message}"
    return CommandError(text, of_answer(status, code), reason=code or f"http-{status}")


def segment(name: str) -> str:
    """Return a name as one path segment."""
    return quote(name, safe="")
