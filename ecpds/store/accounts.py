"""Data users, policies, web users, their keys, tokens and sessions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime

from ecpds.model.account import DataUser, Grant, Permission, Policy, Role, Service, WebUser
from ecpds.model.errors import Conflict
from ecpds.store import roles
from ecpds.store.codec import dump, from_micros, load, maybe_micros, maybe_time, plain, to_micros
from ecpds.store.db import Connection, Row, statement

BUILT_IN = frozenset(Role)
PUT_USER = statement("""
    INSERT INTO data_user (login, service, active, comment, country, password_hash, totp_secret,
        operations, destinations, policies, ssh_keys, options, updated_at)
    VALUES (:login, :service, :active, :comment, :country, :password_hash, :totp_secret,
        :operations, :destinations, :policies, :ssh_keys, :options, :now)
    ON CONFLICT (login) DO UPDATE SET
        service = excluded.service, active = excluded.active, comment = excluded.comment,
        country = excluded.country, password_hash = excluded.password_hash,
        totp_secret = excluded.totp_secret, operations = excluded.operations,
        destinations = excluded.destinations, policies = excluded.policies,
        ssh_keys = excluded.ssh_keys, options = excluded.options, version = version + 1,
        updated_at = excluded.updated_at""")
USER = statement("SELECT * FROM data_user WHERE login = :login", hot=True)
USERS = statement("SELECT * FROM data_user ORDER BY login")
DELETE_USER = statement("DELETE FROM data_user WHERE login = :login")
USER_LOGIN = statement("""
    UPDATE data_user SET last_login_at = :now, last_login_from = :peer WHERE login = :login""")
WEB_USER_CODE = statement("UPDATE web_user SET totp_step = :step WHERE name = :name")
SESSIONS = statement("SELECT * FROM web_session WHERE expires_at > :now ORDER BY used_at DESC")
END_SESSION = statement("DELETE FROM web_session WHERE substr(token_hash, 1, 16) = :id")
USER_CODE = statement("UPDATE data_user SET totp_step = :step WHERE login = :login")
PUT_POLICY = statement("""
    INSERT INTO policy (name, active, comment, operations, destinations, options, updated_at)
    VALUES (:name, :active, :comment, :operations, :destinations, :options, :now)
    ON CONFLICT (name) DO UPDATE SET
        active = excluded.active, comment = excluded.comment, operations = excluded.operations,
        destinations = excluded.destinations, options = excluded.options, version = version + 1,
        updated_at = excluded.updated_at""")
POLICY = statement("SELECT * FROM policy WHERE name = :name", hot=True)
POLICIES = statement("SELECT * FROM policy ORDER BY name")
DELETE_POLICY = statement("DELETE FROM policy WHERE name = :name")
PUT_WEB_USER = statement("""
    INSERT INTO web_user (name, active, comment, password_hash, totp_secret, grants, updated_at)
    VALUES (:name, :active, :comment, :password_hash, :totp_secret, :grants, :now)
    ON CONFLICT (name) DO UPDATE SET
        active = excluded.active, comment = excluded.comment,
        password_hash = excluded.password_hash, totp_secret = excluded.totp_secret,
        grants = excluded.grants, version = version + 1, updated_at = excluded.updated_at""")
WEB_USER = statement("SELECT * FROM web_user WHERE name = :name", hot=True)
WEB_USERS = statement("SELECT * FROM web_user ORDER BY name")
DELETE_WEB_USER = statement("DELETE FROM web_user WHERE name = :name")
WEB_LOGIN = statement("""
    UPDATE web_user SET last_login_at = :now, last_login_from = :peer WHERE name = :name""")
PUT_TOKEN = statement("""
    INSERT INTO token (name, secret_hash, owner, scopes, objects, networks, created_at, expires_at)
    VALUES (:name, :secret_hash, :owner, :scopes, :objects, :networks, :now, :expires_at)""")
TOKEN = statement("SELECT * FROM token WHERE secret_hash = :secret_hash", hot=True)
TOKEN_BEFORE = statement(
    "SELECT * FROM token WHERE old_hash = :secret_hash AND old_hash != ''", hot=True
)
TOKEN_BY_ID = statement("SELECT * FROM token WHERE id = :id")
ROTATE = statement("""
    UPDATE token SET old_hash = secret_hash, old_until = :until, secret_hash = :secret_hash
    WHERE id = :id""")
TOKENS = statement("SELECT * FROM token ORDER BY id")
DELETE_TOKEN = statement("DELETE FROM token WHERE id = :id")
TOKEN_USED = statement("""
    UPDATE token SET last_used_at = :now, last_address = :peer WHERE id = :id""")
PUT_SESSION = statement("""
    INSERT INTO web_session (token_hash, name, created_at, used_at, expires_at, peer)
    VALUES (:token_hash, :name, :now, :now, :expires_at, :peer)""")
SESSION = statement("SELECT * FROM web_session WHERE token_hash = :token_hash", hot=True)
USE_SESSION = statement("""
    UPDATE web_session SET used_at = :now, expires_at = :expires_at
    WHERE token_hash = :token_hash""")
DELETE_SESSION = statement("DELETE FROM web_session WHERE token_hash = :token_hash")
END_SESSIONS = statement("DELETE FROM web_session WHERE name = :name")
EXPIRE_SESSIONS = statement("DELETE FROM web_session WHERE expires_at <= :now")
PUT_S3_KEY = statement("""
    INSERT INTO s3_key (access_key, login, secret, created_at)
    VALUES (:access_key, :login, :secret, :now)
    ON CONFLICT (access_key) DO UPDATE SET secret = excluded.secret
    WHERE login = excluded.login""")
S3_KEYS = statement(
    "SELECT access_key, secret FROM s3_key WHERE login = :login ORDER BY access_key"
)
DROP_S3_KEYS = statement("""
    DELETE FROM s3_key
    WHERE login = :login AND access_key NOT IN (SELECT value FROM json_each(:kept))""")


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredUser:
    """A data user with what only the login check may see."""

    user: DataUser
    password_hash: str
    totp_secret: str  # sealed
    version: int
    totp_step: int = 0  # of the last one-time code that was used


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredWebUser:
    """A web user with what only the login check may see."""

    user: WebUser
    password_hash: str
    totp_secret: str  # sealed
    version: int
    totp_step: int = 0  # of the last one-time code that was used


@dataclass(frozen=True, slots=True, kw_only=True)
class Token:
    """A bearer token of the API; the secret itself is not stored."""

    id: int
    name: str
    owner: str
    scopes: tuple[str, ...] = ("*:*",)
    objects: tuple[str, ...] = ("*",)
    networks: tuple[str, ...] = ()
    expires_at: datetime | None = None
    last_used_at: datetime | None = None
    last_address: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class WebSession:
    """A logged-in browser."""

    name: str
    created_at: datetime
    expires_at: datetime
    peer: str


def put_user(
    db: Connection, user: DataUser, *, password_hash: str, totp_secret: str, now: datetime
) -> None:
    """Create or replace a data user; the TOTP secret comes sealed."""
    db.execute(
        PUT_USER.sql,
        {
            "login": user.login,
            "service": user.service.value,
            "active": user.active,
            "comment": user.comment,
            "country": user.country,
            "password_hash": password_hash,
            "totp_secret": totp_secret,
            "operations": dump(plain(user.operations)),
            "destinations": dump(list(user.destinations)),
            "policies": dump(list(user.policies)),
            "ssh_keys": dump(list(user.ssh_keys)),
            "options": dump(user.options),
            "now": to_micros(now),
        },
    )


def _user(row: Row) -> StoredUser:
    user = DataUser(
        login=row["login"],
        service=Service(row["service"]),
        active=bool(row["active"]),
        comment=row["comment"],
        country=row["country"],
        has_password=bool(row["password_hash"]),
        operations=frozenset(Permission(word) for word in load(row["operations"])),
        destinations=tuple(load(row["destinations"])),
        policies=tuple(load(row["policies"])),
        ssh_keys=tuple(load(row["ssh_keys"])),
        options=load(row["options"]),
        last_login_at=maybe_time(row["last_login_at"]),
        last_login_from=row["last_login_from"],
    )
    return StoredUser(
        user=user,
        password_hash=row["password_hash"],
        totp_secret=row["totp_secret"],
        version=row["version"],
        totp_step=row["totp_step"],
    )


def user(db: Connection, login: str) -> StoredUser | None:
    """Return one data user, None if there is none."""
    row = db.execute(USER.sql, {"login": login}).fetchone()
    return _user(row) if row else None


def users(db: Connection) -> list[StoredUser]:
    """Return all data users by login."""
    return [_user(row) for row in db.execute(USERS.sql)]


def delete_user(db: Connection, login: str) -> bool:
    """Remove a data user; tell whether it was there."""
    return db.execute(DELETE_USER.sql, {"login": login}).rowcount > 0


def user_logged_in(db: Connection, login: str, peer: str, *, now: datetime) -> None:
    """Remember the last login."""
    db.execute(USER_LOGIN.sql, {"login": login, "peer": peer, "now": to_micros(now)})


def code_used(db: Connection, login: str, step: int) -> None:
    """Remember the step of a one-time code, so that no later process takes it again."""
    db.execute(USER_CODE.sql, {"login": login, "step": step})


def put_policy(db: Connection, policy: Policy, *, now: datetime) -> None:
    """Create or replace a policy."""
    db.execute(
        PUT_POLICY.sql,
        {
            "name": policy.name,
            "active": policy.active,
            "comment": policy.comment,
            "operations": dump(plain(policy.operations)),
            "destinations": dump(list(policy.destinations)),
            "options": dump(policy.options),
            "now": to_micros(now),
        },
    )


def _policy(row: Row) -> Policy:
    return Policy(
        name=row["name"],
        active=bool(row["active"]),
        comment=row["comment"],
        operations=frozenset(Permission(word) for word in load(row["operations"])),
        destinations=tuple(load(row["destinations"])),
        options=load(row["options"]),
    )


def policy(db: Connection, name: str) -> Policy | None:
    """Return one policy, None if there is none."""
    row = db.execute(POLICY.sql, {"name": name}).fetchone()
    return _policy(row) if row else None


def policies(db: Connection) -> list[Policy]:
    """Return all policies by name."""
    return [_policy(row) for row in db.execute(POLICIES.sql)]


def policies_of(db: Connection, names: Sequence[str]) -> list[Policy]:
    """Return the existing policies out of `names`, in that order."""
    return [found for name in names if (found := policy(db, name)) is not None]


def delete_policy(db: Connection, name: str) -> bool:
    """Remove a policy; tell whether it was there."""
    return db.execute(DELETE_POLICY.sql, {"name": name}).rowcount > 0


def put_web_user(
    db: Connection, user: WebUser, *, password_hash: str, totp_secret: str, now: datetime
) -> None:
    """Create or replace a web user; the TOTP secret comes sealed."""
    db.execute(
        PUT_WEB_USER.sql,
        {
            "name": user.name,
            "active": user.active,
            "comment": user.comment,
            "password_hash": password_hash,
            "totp_secret": totp_secret,
            "grants": dump(plain(user.grants)),
            "now": to_micros(now),
        },
    )


def _web_user(db: Connection, row: Row) -> StoredWebUser:
    grants = tuple(
        Grant(role=one["role"], scope=one["scope"], restricted=one["restricted"])
        for one in load(row["grants"])
    )
    made = [roles.get(db, one.role) for one in grants if one.role not in BUILT_IN]
    user = WebUser(
        name=row["name"],
        active=bool(row["active"]),
        comment=row["comment"],
        has_password=bool(row["password_hash"]),
        grants=grants,
        made_roles={one.name: one.scopes for one in made if one is not None},
        last_login_at=maybe_time(row["last_login_at"]),
        last_login_from=row["last_login_from"],
    )
    return StoredWebUser(
        user=user,
        password_hash=row["password_hash"],
        totp_secret=row["totp_secret"],
        version=row["version"],
        totp_step=row["totp_step"],
    )


def web_user(db: Connection, name: str) -> StoredWebUser | None:
    """Return one web user, None if there is none."""
    row = db.execute(WEB_USER.sql, {"name": name}).fetchone()
    return _web_user(db, row) if row else None


def web_users(db: Connection) -> list[StoredWebUser]:
    """Return all web users by name."""
    return [_web_user(db, row) for row in db.execute(WEB_USERS.sql)]


def delete_web_user(db: Connection, name: str) -> bool:
    """Remove a web user with its sessions; tell whether it was there."""
    return db.execute(DELETE_WEB_USER.sql, {"name": name}).rowcount > 0


def web_logged_in(db: Connection, name: str, peer: str, *, now: datetime) -> None:
    """Remember the last login."""
    db.execute(WEB_LOGIN.sql, {"name": name, "peer": peer, "now": to_micros(now)})


def put_token(db: Connection, token: Token, *, secret_hash: str, now: datetime) -> int:
    """Add a token (its `id` is ignored); return the id."""
    values = {
        "name": token.name,
        "secret_hash": secret_hash,
        "owner": token.owner,
        "scopes": dump(list(token.scopes)),
        "objects": dump(list(token.objects)),
        "networks": dump(list(token.networks)),
        "now": to_micros(now),
        "expires_at": maybe_micros(token.expires_at),
    }
    return int(db.execute(PUT_TOKEN.sql, values).lastrowid or 0)


def _token(row: Row) -> Token:
    return Token(
        id=row["id"],
        name=row["name"],
        owner=row["owner"],
        scopes=tuple(load(row["scopes"])),
        objects=tuple(load(row["objects"])),
        networks=tuple(load(row["networks"])),
        expires_at=maybe_time(row["expires_at"]),
        last_used_at=maybe_time(row["last_used_at"]),
        last_address=row["last_address"],
    )


def token(db: Connection, secret_hash: str) -> Token | None:
    """Return the token with that hash, None if there is none.

    One that was rotated is found by its hash before too; it then ends when that does.
    """
    row = db.execute(TOKEN.sql, {"secret_hash": secret_hash}).fetchone()
    if row is not None:
        return _token(row)
    row = db.execute(TOKEN_BEFORE.sql, {"secret_hash": secret_hash}).fetchone()
    if row is None:
        return None
    found, until = _token(row), from_micros(row["old_until"])
    ends = until if found.expires_at is None else min(until, found.expires_at)
    return replace(found, expires_at=ends)


def rotate_token(db: Connection, number: int, secret_hash: str, *, until: datetime) -> None:
    """Give a token another secret; the one before is good until then."""
    values = {"id": number, "secret_hash": secret_hash, "until": to_micros(until)}
    db.execute(ROTATE.sql, values)


def token_by_id(db: Connection, number: int) -> Token | None:
    """Return one token, None if there is none."""
    row = db.execute(TOKEN_BY_ID.sql, {"id": number}).fetchone()
    return _token(row) if row else None


def tokens(db: Connection) -> list[Token]:
    """Return all tokens."""
    return [_token(row) for row in db.execute(TOKENS.sql)]


def delete_token(db: Connection, number: int) -> bool:
    """Remove a token; tell whether it was there."""
    return db.execute(DELETE_TOKEN.sql, {"id": number}).rowcount > 0


def token_used(db: Connection, number: int, peer: str, *, now: datetime) -> None:
    """Remember the last use."""
    db.execute(TOKEN_USED.sql, {"id": number, "peer": peer, "now": to_micros(now)})


def put_session(
    db: Connection, token_hash: str, name: str, *, peer: str, now: datetime, expires_at: datetime
) -> None:
    """Add a browser session."""
    values = {"token_hash": token_hash, "name": name, "peer": peer, "now": to_micros(now)}
    db.execute(PUT_SESSION.sql, values | {"expires_at": to_micros(expires_at)})


def session(db: Connection, token_hash: str, *, now: datetime) -> WebSession | None:
    """Return a live session, None if there is none."""
    row = db.execute(SESSION.sql, {"token_hash": token_hash}).fetchone()
    if row is None or row["expires_at"] <= to_micros(now):
        return None
    created, expires = maybe_time(row["created_at"]), maybe_time(row["expires_at"])
    assert created is not None  # noqa: S101 - NOT NULL columns
    assert expires is not None  # noqa: S101
    return WebSession(name=row["name"], created_at=created, expires_at=expires, peer=row["peer"])


def use_session(db: Connection, token_hash: str, *, now: datetime, expires_at: datetime) -> None:
    """Slide the expiry of a session."""
    values = {"token_hash": token_hash, "now": to_micros(now)}
    db.execute(USE_SESSION.sql, values | {"expires_at": to_micros(expires_at)})


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenSession:
    """A live browser session as people see it."""

    id: str  # the beginning of its hash, which opens nothing
    name: str
    created_at: datetime
    used_at: datetime
    expires_at: datetime
    peer: str


def sessions(db: Connection, *, now: datetime) -> list[OpenSession]:
    """Return the live browser sessions, the last used first."""
    return [
        OpenSession(
            id=row["token_hash"][:16],
            name=row["name"],
            created_at=from_micros(row["created_at"]),
            used_at=from_micros(row["used_at"]),
            expires_at=from_micros(row["expires_at"]),
            peer=row["peer"],
        )
        for row in db.execute(SESSIONS.sql, {"now": to_micros(now)})
    ]


def end_session(db: Connection, number: str) -> bool:
    """Log one browser out; tell whether there was such a session."""
    return db.execute(END_SESSION.sql, {"id": number}).rowcount > 0


def web_code_used(db: Connection, name: str, step: int) -> None:
    """Remember the last one-time code that a web user has used."""
    db.execute(WEB_USER_CODE.sql, {"name": name, "step": step})


def delete_session(db: Connection, token_hash: str) -> None:
    """Log a browser out."""
    db.execute(DELETE_SESSION.sql, {"token_hash": token_hash})


def end_sessions(db: Connection, name: str) -> None:
    """Log all browsers of a web user out."""
    db.execute(END_SESSIONS.sql, {"name": name})


def expire_sessions(db: Connection, *, now: datetime) -> None:
    """Drop sessions past their expiry."""
    db.execute(EXPIRE_SESSIONS.sql, {"now": to_micros(now)})


def put_s3_keys(
    db: Connection, login: str, keys: Sequence[tuple[str, str]], *, now: datetime
) -> None:
    """Replace the key pairs of a data user; secrets come sealed.

    A pair that stays keeps its scope and end.  Raises Conflict for a key that another user has.
    """
    kept = dump([access_key for access_key, _ in keys])
    db.execute(DROP_S3_KEYS.sql, {"login": login, "kept": kept})
    for access_key, secret in keys:
        values = {"access_key": access_key, "login": login, "secret": secret}
        if not db.execute(PUT_S3_KEY.sql, values | {"now": to_micros(now)}).rowcount:
            raise Conflict(f"the access key {access_key} is taken")


def s3_keys(db: Connection, login: str) -> list[tuple[str, str]]:
    """Return access keys and sealed secrets of a data user."""
    return [(r["access_key"], r["secret"]) for r in db.execute(S3_KEYS.sql, {"login": login})]


SUBSCRIBER = statement(
    """
    SELECT id FROM subscriber
    WHERE login = :login AND password_hash = :password_hash AND active = 1""",
    hot=True,
)


def subscriber(db: Connection, login: str, password_hash: str) -> int | None:
    """Return the active subscriber of a self-service user with that generated password.

    Such passwords are random and long: `passwords.token_hash` of them is what is stored.
    """
    values = {"login": login, "password_hash": password_hash}
    row = db.execute(SUBSCRIBER.sql, values).fetchone()
    return int(row["id"]) if row else None
