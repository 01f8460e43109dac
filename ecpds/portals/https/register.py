"""Self-service registration: forms, the links in mails, and lost passwords.

Whether an address is known is told to nobody: the answer is the same, only the mail differs.
Spec: portal.md 1.6, Ex 23.
"""

from __future__ import annotations

import json
from typing import Final
from urllib.parse import urlencode

from ecpds.model.errors import EcpdsError, InputError, NotFound
from ecpds.portals.https import answers
from ecpds.portals.https.exchange import Answer, Ask, Refused
from ecpds.portals.https.fields import FILE_POLICY, security
from ecpds.portals.https.form import TEXT, read_urlencoded
from ecpds.portals.https.pages import Pages
from ecpds.vfs.contract import Registrar

REGISTER: Final = "/ecpds/register"
VERIFY: Final = "/ecpds/verify"
RESET: Final = "/ecpds/reset"
PATHS: Final = frozenset({REGISTER, VERIFY, RESET})
_STATES: Final = {
    "pending": "Nearly done: please open the link in the mail that is on its way to you.",
    "verified": "Thank you. An administrator will look at your registration; a mail follows.",
    "activated": "Your access is open: the password is on its way to you by mail.",
    "invalid": "This link is not valid: it works once, and for 24 hours.",
    "sent": "If there is such an account, a mail is on its way.",
    "renewed": "A new password is on its way to you by mail.",
}


class Register:
    """Answers requests for the addresses of self-service."""

    def __init__(self, registrar: Registrar, pages: Pages) -> None:
        self._registrar = registrar
        self._pages = pages

    async def answer(self, ask: Ask, path: str) -> Answer:
        """Answer one request."""
        if path == VERIFY:
            return await self._verify(ask)
        if ask.method in ("GET", "HEAD"):
            return await self._form(ask, path)
        if ask.method != "POST":
            raise Refused(405, "forms take GET and POST", Allow="GET, HEAD, POST")
        fields = await read_texts(ask)
        if path == RESET:
            return await self._reset(ask, fields)
        return await self._register(ask, fields)

    async def _form(self, ask: Ask, path: str) -> Answer:
        query = ask.query
        state, user = query.get("state", ""), query.get("user", "")
        if not state and "token" not in query:
            try:
                await self._registrar.check(user)
            except InputError:
                raise NotFound("there is nothing to register for") from None
        return self._pages.page(
            ask,
            "reset" if path == RESET else "register",
            options={},
            headers={"Cache-Control": "no-store", "Referrer-Policy": "no-referrer"},
            user=user,
            token=query.get("token", ""),
            said=_STATES.get(state, ""),
            bad=state == "invalid",
            failed="",
        )

    async def _register(self, ask: Ask, fields: dict[str, str]) -> Answer:
        try:
            await self._registrar.register(
                fields.get("user", ""),
                name=fields.get("name", ""),
                email=fields.get("email", ""),
                country=fields.get("iso", ""),
                peer=ask.peer,
            )
        except EcpdsError as error:
            return self._failed(ask, "register", fields, error)
        return self._done(ask, REGISTER, "pending")

    async def _reset(self, ask: Ask, fields: dict[str, str]) -> Answer:
        token = fields.get("token", "")
        if token:
            good = await self._registrar.reset(token)
            return self._done(ask, RESET, "renewed" if good else "invalid")
        try:
            await self._registrar.ask_reset(
                fields.get("user", ""), email=fields.get("email", ""), peer=ask.peer
            )
        except EcpdsError as error:
            return self._failed(ask, "reset", fields, error)
        return self._done(ask, RESET, "sent")

    async def _verify(self, ask: Ask) -> Answer:
        if ask.method != "GET":  # a HEAD of a mail scanner uses no link up
            raise Refused(405, "the link takes GET", Allow="GET")
        state = await self._registrar.verify(ask.query.get("token", ""))
        return _see(self._pages, ask, f"{REGISTER}?{urlencode({'state': state})}")

    def _done(self, ask: Ask, path: str, state: str) -> Answer:
        if answers.wants_page(ask):
            return _see(self._pages, ask, f"{path}?{urlencode({'state': state})}")
        return _document(ask, 200, {"status": state})

    def _failed(self, ask: Ask, page: str, fields: dict[str, str], error: EcpdsError) -> Answer:
        status, text = answers.status_of(error), answers.text_of(error)
        if not answers.wants_page(ask):
            answer = _document(ask, status, {"message": text})
            answer.headers |= answers.fields_of(error, ask)
            return answer
        return self._pages.page(
            ask,
            page,
            options={},
            status=status,
            headers={"Cache-Control": "no-store"},
            user=fields.get("user", ""),
            token="",
            said="",
            bad=False,
            failed=text,
        )


def _see(pages: Pages, ask: Ask, address: str) -> Answer:
    answer = pages.redirect(ask, address)
    answer.status = 303
    return answer


def _document(ask: Ask, status: int, document: dict[str, str]) -> Answer:
    fields = security(secure=ask.secure, policy=FILE_POLICY)
    fields |= {"Content-Type": "application/json", "Cache-Control": "no-store"}
    return Answer(status=status, headers=fields, body=json.dumps(document).encode())


async def read_texts(ask: Ask) -> dict[str, str]:
    """Return the texts of a form or a JSON object; raise InputError or TooLarge."""
    kind = ask.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind != "application/json":
        return await read_urlencoded(ask.body)
    raw = bytearray()
    while block := await ask.body.read():
        raw += block
        if len(raw) > TEXT:
            raise Refused(413, f"this document may have {TEXT} bytes")
    try:
        found = json.loads(raw)
    except (ValueError, RecursionError):
        raise InputError("the body is no JSON") from None
    if not isinstance(found, dict) or not all(isinstance(v, str) for v in found.values()):
        raise InputError("the body is an object of texts")
    return {str(key): value for key, value in found.items()}
