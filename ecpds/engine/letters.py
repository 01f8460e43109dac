"""The texts of mails: templates below `templates/mail`, the subject in their first line."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

import jinja2

from ecpds.base.mail import Mail
from ecpds.engine.core import Core

NAMES: Final = ("verify", "access", "notice", "known", "reset")


class Letters:
    """Renders mails."""

    def __init__(self, templates: Path) -> None:
        """Read what is below `templates`."""
        self._environment = jinja2.Environment(
            loader=jinja2.FileSystemLoader(templates / "mail"),
            autoescape=False,  # noqa: S701 - plain text
            undefined=jinja2.StrictUndefined,
            auto_reload=False,
            trim_blocks=True,
            lstrip_blocks=True,
        )
        for name in NAMES:
            self._environment.get_template(f"{name}.txt")  # compiled now, not in the loop

    def mail(self, kind: str, to: Sequence[str], **values: object) -> Mail:
        """Return the mail made of a template."""
        text = self._environment.get_template(f"{kind}.txt").render(**values)
        subject, _, body = text.partition("\n")
        return Mail(to=to, subject=subject.removeprefix("Subject: "), text=f"{body.strip()}\n")


def portal_address(core: Core) -> str:
    """Return the address under which people reach the HTTPS portal, without a final slash.

    Never the Host of a request: whoever sends that could put his own address into our mails.
    """
    https, host = core.settings.portal.https, core.settings.node.public_host
    if https.public_url:
        return https.public_url.rstrip("/")
    known = urlsplit(core.endpoints.get("portal_https", ""))
    scheme = known.scheme or ("https" if https.tls else "http")
    port = known.port or https.listen.rpartition(":")[2]
    shown = f"[{host}]" if ":" in host else host
    return f"{scheme}://{shown}:{port}"
