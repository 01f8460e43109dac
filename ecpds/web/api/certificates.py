"""`/certificates`, `/config/actions/reload`, `/mail/actions/test`: the node, for administrators.

New connections get a new certificate at once; sessions that are open keep theirs.
"""

from __future__ import annotations

from typing import Final

from aiohttp import web

from ecpds.base import tlsfiles
from ecpds.base.tlsfiles import CertificateFacts
from ecpds.web import shown
from ecpds.web.api import answers
from ecpds.web.api.schemas import CertificateImport, CertificateRequest, MailTry, Nothing
from ecpds.web.call import Call
from ecpds.web.routes import FIELDS, Route
from ecpds.web.shown import Document

RIGHT: Final = "system:admin"
ALL: Final = "/api/v2/certificates"


def _shown(facts: CertificateFacts) -> Document:
    return {
        "subject": facts.subject,
        "issuer": facts.issuer,
        "names": list(facts.names),
        "begins": shown.moment(facts.begins_at),
        "ends": shown.moment(facts.ends_at),
        "serial": facts.serial,
        "sha256": facts.sha256,
        "self_signed": facts.is_self_signed,
        "path": facts.path,
    }


async def _present(call: Call) -> web.StreamResponse:
    return answers.as_json(_shown(await call.services.node.certificate()))


async def index(call: Call) -> web.StreamResponse:
    """List the certificate of the listeners."""
    call.caller.check_everywhere(RIGHT)
    return answers.page(call, [_shown(await call.services.node.certificate())], None)


async def request(call: Call) -> web.StreamResponse:
    """Make a key and a request for its certificate."""
    call.caller.check_everywhere(RIGHT)
    asked = await call.decoded(CertificateRequest)
    names = list(asked.names) or [call.services.core.settings.node.public_host]
    text = await call.services.node.request(names, call.caller.actor)
    return answers.as_json({"request": text})


async def install(call: Call) -> web.StreamResponse:
    """Put a certificate in place."""
    call.caller.check_everywhere(RIGHT)
    asked = await call.decoded(CertificateImport)
    chain, key = asked.certificate, asked.key.reveal()
    if asked.pkcs12:
        chain, key = await call.services.core.threads.run(
            "disk", tlsfiles.unpacked, asked.pkcs12, asked.password.reveal()
        )
    await call.services.node.install(chain, key, call.caller.actor)
    return await _present(call)


async def self_signed(call: Call) -> web.StreamResponse:
    """Make a new self-signed certificate."""
    call.caller.check_everywhere(RIGHT)
    await call.decoded(Nothing)
    await call.services.node.self_sign(call.caller.actor)
    return await _present(call)


async def reload_files(call: Call) -> web.StreamResponse:
    """Read the files anew."""
    call.caller.check_everywhere(RIGHT)
    await call.decoded(Nothing)
    await call.services.node.reload_certificate(call.caller.actor)
    return await _present(call)


async def reload_settings(call: Call) -> web.StreamResponse:
    """Read settings and certificate anew; sessions go on."""
    call.caller.check_everywhere(RIGHT)
    await call.decoded(Nothing)
    await call.services.node.reload(call.caller.actor)
    return answers.nothing()


async def try_mail(call: Call) -> web.StreamResponse:
    """Send a mail to try."""
    call.caller.check_everywhere(RIGHT)
    asked = await call.decoded(MailTry)
    text = await call.services.node.try_mail(asked.to, call.caller.actor)
    return answers.as_json({"message": text})


ROUTES: Final = (
    Route(method="GET", path=ALL, right=RIGHT, handle=index, query=(FIELDS,),
          summary="The certificate of the listeners.", answer="[Certificate]"),
    Route(method="POST", path=ALL + "/actions/csr", right=RIGHT, handle=request,
          body="CertificateRequest", answer="CertificateRequested",
          summary="Make a key, kept here, and a request for its certificate."),
    Route(method="POST", path=ALL + "/actions/import", right=RIGHT, handle=install,
          body="CertificateImport", answer="Certificate",
          summary="Put a certificate in place, PEM or PKCS #12; new connections get it at once."),
    Route(method="POST", path=ALL + "/actions/self_signed", right=RIGHT, handle=self_signed,
          body="Nothing", answer="Certificate", summary="Make a new self-signed certificate."),
    Route(method="POST", path=ALL + "/actions/reload", right=RIGHT, handle=reload_files,
          body="Nothing", answer="Certificate",
          summary="Read the files of the certificate anew."),
    Route(method="POST", path="/api/v2/config/actions/reload", right=RIGHT,
          handle=reload_settings, body="Nothing", status=204,
          summary="Read settings and certificate anew; sessions go on."),
    Route(method="POST", path="/api/v2/mail/actions/test", right=RIGHT, handle=try_mail,
          body="MailTry", answer="MailTried", summary="Send a mail to try."),
)  # fmt: skip
