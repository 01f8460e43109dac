"""Whose keys sign the requests to an S3 service: the Host's, those of a role, or the machine's.

Temporary keys are shared by all sessions of a Host and renewed five minutes before they end.  The
machine's keys are asked for only where `security.egress_allow` names their address: whoever may
edit a Host could else use what the machine may do.

Spec: AWS STS AssumeRole, AssumeRoleWithWebIdentity; EC2 "Instance metadata service version 2".
"""

from __future__ import annotations

import hashlib
import ipaddress
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlencode

from yarl import URL

from ecpds.model.errors import Phase, RemoteAuth, RemoteConfig, RemoteTransient
from ecpds.model.secret import Secret
from ecpds.modules.http_client import HttpClient
from ecpds.modules.http_errors import Ask
from ecpds.modules.http_options import HttpOptions
from ecpds.modules.s3_errors import failure, meaning
from ecpds.modules.s3_options import S3Options
from ecpds.modules.s3_sign import Keys, Signer
from ecpds.modules.s3_xml import read
from ecpds.transfer.contract import Surroundings, Target

EARLY: Final = timedelta(minutes=5)
"""How long before their end temporary keys are renewed."""

METADATA: Final = "169.254.169.254"
LONGEST_ANSWER: Final = 64 * 1024

_MEMORY: Final = "s3"
_PATH: Final = "/latest/meta-data/iam/security-credentials/"


class Credentials:
    """Gives the keys of one Host."""

    def __init__(self, target: Target, options: S3Options, around: Surroundings) -> None:
        self._target = target
        self._options = options
        self._around = around
        self._given = Keys(
            access_key=target.login, secret_key=target.password, token=options.session_token
        )
        self._keys: Keys | None = None
        by_others = options.credentials in ("instance", "webIdentity")
        self._is_temporary = by_others or bool(options.role_arn)
        parts = (target.login, target.password.reveal(), options.role_arn, options.sts_url)
        mark = hashlib.sha256(repr((parts, options)).encode()).hexdigest()
        self._fact = f"keys {mark}"

    async def current(self, region: str) -> Keys | None:
        """Return the keys to sign with, None for anonymous requests."""
        if not self._is_temporary:
            is_named = self._options.credentials == "host" and self._given.access_key
            return self._given if is_named else None
        if self._keys is None:
            self._keys = self._remembered()
        if self._keys is None or self._is_old(self._keys):
            self._keys = await self._renewed(region)
            self._remember(self._keys)
        return self._keys

    def drop(self) -> bool:
        """Forget temporary keys that the service calls expired; False when there are none."""
        self._keys = None
        self._around.memory.keep(_MEMORY, self._target.host_name, self._fact, "")
        return self._is_temporary

    def _is_old(self, keys: Keys) -> bool:
        end = keys.expires_at
        return end is not None and end - EARLY <= self._around.clock.now()

    def _remembered(self) -> Keys | None:
        text = self._around.memory.recall(_MEMORY, self._target.host_name, self._fact)
        return _keys(json.loads(text)) if text else None

    def _remember(self, keys: Keys) -> None:
        record = {
            "AccessKeyId": keys.access_key,
            "SecretAccessKey": keys.secret_key.reveal(),
            "SessionToken": keys.token.reveal(),
            "Expiration": keys.expires_at.isoformat() if keys.expires_at else "",
        }
        self._around.memory.keep(_MEMORY, self._target.host_name, self._fact, json.dumps(record))

    async def _renewed(self, region: str) -> Keys:
        if self._options.credentials == "instance":
            keys = await self._of_the_machine()
            if not self._options.role_arn:
                return keys
            return await self._of_the_role(keys, region)
        if self._options.credentials == "webIdentity":
            return await self._of_the_token(region)
        return await self._of_the_role(self._given, region)

    # --- roles ------------------------------------------------------------------------------

    def _role(self, action: str) -> list[tuple[str, str]]:
        options = self._options
        return [
            ("Action", action),
            ("Version", "2011-06-15"),
            ("RoleArn", options.role_arn),
            ("RoleSessionName", options.role_session_name),
            ("DurationSeconds", str(options.duration_seconds)),
        ]

    async def _of_the_role(self, keys: Keys, region: str) -> Keys:
        form = self._role("AssumeRole")
        if external := self._options.external_id.reveal():
            form.append(("ExternalId", external))
        return await self._asked(form, region, keys)

    async def _of_the_token(self, region: str) -> Keys:
        if not self._options.role_arn:
            raise RemoteConfig("s3.credentials = webIdentity needs s3.roleArn", phase=Phase.AUTH)
        token = await self._around.threads.run(
            "disk", _token, self._options.token_file, self._around.key_directories
        )
        form = [*self._role("AssumeRoleWithWebIdentity"), ("WebIdentityToken", token)]
        return await self._asked(form, region, None)

    async def _asked(self, form: Sequence[tuple[str, str]], region: str, keys: Keys | None) -> Keys:
        url = URL(self._options.sts_url or f"https://sts.{region}.amazonaws.com")
        if url.scheme not in ("http", "https") or not url.host:
            raise RemoteConfig("s3.stsUrl is no http[s]://host[:port]", phase=Phase.CONNECT)
        content = urlencode(form).encode()
        headers = {"Content-Type": "application/x-www-form-urlencoded; charset=utf-8"}
        if keys is not None:
            host = url.host if url.is_default_port() else f"{url.host}:{url.port}"
            headers = Signer("sts").headers(
                keys,
                region,
                method="POST",
                host=host,
                path=url.raw_path,
                query="",
                headers=headers,
                payload=hashlib.sha256(content).hexdigest(),
                now=self._around.clock.now(),
            )
        status, answer = await self._ask("POST", url, headers, content)
        document = read(answer)
        if status != 200:
            code = document.fields.get("Code", "")
            raise failure(
                meaning(code, status),
                f"role {self._options.role_arn}",
                status=status,
                code=code,
                text=document.fields.get("Message", ""),
                phase=Phase.AUTH,
            )
        return _keys(document.fields)

    # --- the machine ------------------------------------------------------------------------

    async def _of_the_machine(self) -> Keys:
        address = ipaddress.ip_address(METADATA)
        if not any(address in ipaddress.ip_network(n) for n in self._around.egress_allow):
            raise RemoteConfig(
                f"s3.credentials = instance needs {METADATA}/32 in security.egress_allow",
                phase=Phase.AUTH,
            )
        url = URL(f"http://{METADATA}")
        ttl = {"X-aws-ec2-metadata-token-ttl-seconds": "300"}
        token = await self._metadata("PUT", url.with_path("/latest/api/token"), ttl)
        with_token = {"X-aws-ec2-metadata-token": token.strip()}
        role = (await self._metadata("GET", url.with_path(_PATH), with_token)).split()
        if not role:
            raise RemoteAuth("the machine has no role", phase=Phase.AUTH)
        text = await self._metadata("GET", url.with_path(_PATH + role[0]), with_token)
        try:
            found = json.loads(text)
        except ValueError:
            raise RemoteTransient("the machine tells no keys", phase=Phase.AUTH) from None
        return _keys(found | {"SessionToken": found.get("Token", "")})

    async def _metadata(self, method: str, url: URL, headers: Mapping[str, str]) -> str:
        status, answer = await self._ask(method, url, headers, None)
        if status != 200:
            raise RemoteAuth(f"the machine tells no keys: {status}", phase=Phase.AUTH)
        return answer.decode(errors="replace")

    async def _ask(
        self, method: str, url: URL, headers: Mapping[str, str], content: bytes | None
    ) -> tuple[int, bytes]:
        options = HttpOptions(
            scheme="https" if url.scheme == "https" else "http",
            port=url.port,
            auth_header=False,
            protocol=self._options.protocol,
        )
        target = replace(
            self._target,
            host=url.host or "",
            address="",
            directory="",
            login="",
            password=Secret(""),
        )
        ask = Ask(
            method=method,
            url=url,
            about="keys",
            phase=Phase.AUTH,
            headers=headers,
            content=content,
            limit=self._target.timeouts.command.total_seconds(),
            follow=False,
        )
        async with (
            HttpClient.open(target, options, self._around) as client,
            client.ask(ask) as response,
        ):
            answer = b""
            while len(answer) < LONGEST_ANSWER and (block := await response.content.readany()):
                answer += block
            return response.status, answer[:LONGEST_ANSWER]


def _keys(found: Mapping[str, Any]) -> Keys:
    try:
        end = str(found.get("Expiration", ""))
        return Keys(
            access_key=str(found["AccessKeyId"]),
            secret_key=Secret(str(found["SecretAccessKey"])),
            token=Secret(str(found.get("SessionToken", ""))),
            expires_at=datetime.fromisoformat(end) if end else None,
        )
    except (KeyError, ValueError):
        raise RemoteTransient("an answer without keys", phase=Phase.AUTH) from None


def _token(name: str, directories: Sequence[str]) -> str:
    where = os.path.realpath(name)
    if not any(Path(where).is_relative_to(os.path.realpath(place)) for place in directories):
        allowed = ", ".join(directories) or "nowhere"
        raise RemoteConfig(f"token file {name!r}: files are read below {allowed}", phase=Phase.AUTH)
    try:
        with Path(where).open("rb") as content:
            return content.read(LONGEST_ANSWER).decode("ascii", "replace").strip()
    except OSError as error:
        raise RemoteConfig(f"token file {name!r}: {error.strerror}", phase=Phase.AUTH) from None
