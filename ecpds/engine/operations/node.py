"""What administrators do with the node: its certificate, a mail to try, its settings."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from ecpds.base import tls, tlsfiles
from ecpds.base.mail import Mail, checked_address
from ecpds.base.tlsfiles import CertificateFacts
from ecpds.engine.core import Core
from ecpds.engine.operations.actor import Actor, record
from ecpds.engine.telling import Teller
from ecpds.model.errors import BadState, ConfigError, NotFound


class NodeOperations:
    """Verbs on the node."""

    def __init__(self, core: Core, reload: Callable[[], str]) -> None:
        """`reload` reads settings and certificate anew; it returns why not, "" when it did."""
        self._core = core
        self._reload = reload
        self._teller = Teller(node=core.node)

    @property
    def _certificates(self) -> tls.Certificates:
        found = self._core.certificates
        if found is None:
            raise NotFound("this node has no certificate")
        return found

    @property
    def _is_ours(self) -> bool:
        return not self._core.settings.tls.certificate

    async def certificate(self) -> CertificateFacts:
        """Return what the certificate of the listeners says; NotFound, ConfigError."""
        path = self._certificates.certificate
        try:
            return await self._core.threads.run("disk", tlsfiles.describe, path)
        except (OSError, ValueError) as error:
            raise ConfigError(f"certificate {path} cannot be read: {error}") from None

    async def request(self, names: list[str], actor: Actor) -> str:
        """Return a request for a certificate of these names; its key is kept here."""
        folder = self._core.settings.data_dir / "tls"
        text = await self._core.threads.run("disk", tlsfiles.make_request, folder, names)
        await self._recorded(actor, "request", {"names": names})
        return text

    async def install(self, chain: str, key: str, actor: Actor) -> None:
        """Put a certificate in place; new connections get it at once.

        Raises InputError, BadState when the settings name files of their own.
        """
        if not self._is_ours:
            raise BadState(
                "the settings name the files of the certificate: replace them there and reload",
                status="configured",
            )
        one, now = self._certificates, self._core.clock.now()
        paths = (one.certificate, one.key)
        await self._core.threads.run("disk", tlsfiles.install, *paths, chain, key, now)
        one.reload()
        await self._recorded(actor, "import", {})

    async def self_sign(self, actor: Actor) -> None:
        """Make a new self-signed certificate; BadState as `install`."""
        if not self._is_ours:
            raise BadState("the settings name the files of the certificate", status="configured")
        core = self._core
        folder, host = core.settings.data_dir / "tls", core.settings.node.public_host
        await core.threads.run("disk", tls.make_self_signed, folder, host, core.clock.now())
        self._certificates.reload()
        await self._recorded(actor, "self-sign", {})

    async def reload_certificate(self, actor: Actor) -> None:
        """Read the files anew; ConfigError, and the old one stays."""
        self._certificates.reload()
        await self._recorded(actor, "reload", {})

    async def reload(self, actor: Actor) -> None:
        """Read settings and certificate anew; ConfigError tells why nothing changed."""
        reason = self._reload()
        if reason:
            raise ConfigError(reason)
        now = self._core.clock.now()
        await self._core.store.write(
            record, actor, "reload", "node", self._core.node, {}, self._teller, now=now
        )

    async def try_mail(self, address: str, actor: Actor) -> str:
        """Send a mail to try; return where it went.  InputError for no address."""
        to = checked_address(address)
        node = self._core.node
        text = f"This mail was sent by {actor.name} to try whether {node} can send mails.\n"
        await self._core.mailer.post(Mail(to=(to,), subject=f"{node}: a mail to try", text=text))
        now = self._core.clock.now()
        await self._core.store.write(
            record, actor, "try-mail", "node", node, {"to": to}, self._teller, now=now
        )
        if self._core.settings.mail.url:
            return f"The mail to {to} is on its way; the log tells if the server refuses it."
        return f"No mail server is set: the mail to {to} is a file below {self._mail_folder}."

    @property
    def _mail_folder(self) -> Path:
        return self._core.settings.data_dir / "mail"

    async def _recorded(self, actor: Actor, action: str, facts: dict[str, object]) -> None:
        now = self._core.clock.now()
        await self._core.store.write(
            record, actor, action, "certificate", "tls", facts, self._teller, now=now
        )
