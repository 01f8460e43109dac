"""The login form and logout of browsers.  Spec: portal.md 1.5; interface.md 8 (portal forms)."""

from __future__ import annotations

from ecpds.model.errors import Denied, Unauthenticated
from ecpds.portals.https import addresses, login
from ecpds.portals.https.exchange import Answer, Ask, Refused
from ecpds.portals.https.form import read_urlencoded
from ecpds.portals.https.login import Logins
from ecpds.portals.https.pages import Pages

LOGIN = "/ecpds/login"
LOGOUT = "/ecpds/logout"


class Door:
    """Answers requests for the two addresses."""

    def __init__(self, logins: Logins, pages: Pages) -> None:
        self._logins = logins
        self._pages = pages

    async def answer(self, ask: Ask, path: str) -> Answer:
        """Show the form, log in or log out."""
        if path == LOGOUT:
            if ask.method != "POST":
                raise Refused(405, "logging out takes POST", Allow="POST")
            return self._leave(ask)
        if ask.method in ("GET", "HEAD"):
            return self._form(ask, ask.query.get("next", ""))
        if ask.method == "POST":
            return await self._enter(ask)
        raise Refused(405, "the form takes GET and POST", Allow="GET, HEAD, POST")

    def _form(
        self,
        ask: Ask,
        next_: str,
        *,
        status: int = 200,
        user: str = "",
        failed: str = "",
        home: str = "",
    ) -> Answer:
        answer = self._pages.page(
            ask,
            "login",
            options={},
            status=status,
            headers={"Cache-Control": "no-store"},
            next=addresses.local(next_),
            user=user,
            failed=failed,
            home=home,
        )
        answer.cookies.append(login.client_cookie(secure=ask.secure))
        return answer

    async def _enter(self, ask: Ask) -> Answer:
        form = await read_urlencoded(ask.body)
        user, next_ = form.get("username", ""), form.get("next", "")
        password = form.get("otp", "").strip() or form.get("password", "")
        try:
            cookie = await self._logins.check_form(ask, user, password)
        except (Unauthenticated, Denied) as error:
            if not ask.from_browser or type(error) not in _SHOWN:
                raise
            status = _SHOWN[type(error)]
            answer = self._form(ask, next_, status=status, user=user, failed=error.message)
            if status == 401:
                answer.headers["WWW-Authenticate"] = 'Form realm="ecpds"'
            return answer
        if not cookie:  # an open-access user needs no login
            home = addresses.link("/ecpds/home/", user, directory=True)
            return self._form(ask, next_, user=user, home=home)
        answer = self._pages.redirect(ask, addresses.local(next_))
        answer.cookies.append(login.session_cookie(cookie, secure=ask.secure))
        return answer

    def _leave(self, ask: Ask) -> Answer:
        self._logins.leave(ask)
        answer = self._pages.redirect(ask, LOGIN)
        answer.cookies.append(login.session_cookie("", secure=ask.secure))
        return answer


_SHOWN = {Unauthenticated: 401, Denied: 403}  # in the form; a ban has the error page
