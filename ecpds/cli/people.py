"""`ecpds subscriber …` and `ecpds session …`: who may come to the portal, and who is there."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from typing import Any, Final

from ecpds.cli.access import add_arguments
from ecpds.cli.client import connect, segment
from ecpds.cli.codes import Exit
from ecpds.cli.verbs import Verb, add_output, as_json, card, listed

SESSIONS: Final = "/portal/sessions"
PERSON: Final = ("id", "email", "name", "country", "active", "verified", "created")
SESSION: Final = ("id", "user", "protocol", "peer", "since", "used", "uploads", "downloads")


def _people(user: str) -> str:
    return f"/portal/users/{segment(user)}/subscribers"


def _user_arguments(parser: ArgumentParser) -> None:
    parser.add_argument("user", help="login of the self-service user")
    add_output(parser)
    add_arguments(parser)


def _one_arguments(parser: ArgumentParser) -> None:
    parser.add_argument("user", help="login of the self-service user")
    parser.add_argument("subscriber", type=int, metavar="ID", help="its number")
    add_output(parser)
    add_arguments(parser)


def _add_arguments(parser: ArgumentParser) -> None:
    parser.add_argument("user", help="login of the self-service user")
    parser.add_argument("email", help="mail address, to which the password goes")
    parser.add_argument("--name", default="", help="name of the person")
    parser.add_argument("--country", default="", metavar="CC", help="two letters")
    add_output(parser)
    add_arguments(parser)


def _list(args: Namespace) -> int:
    found: list[dict[str, Any]] = []
    query: dict[str, str] = {}
    with connect(args) as client:
        while True:
            page = client.call("GET", _people(args.user), query=query)
            found += page["items"]
            if page["next_cursor"] is None:
                break
            query = {"cursor": page["next_cursor"]}
    listed(args, found, "id", PERSON)
    return Exit.DONE


def _tell(args: Namespace, found: dict[str, Any]) -> int:
    if args.output == "json":
        as_json(found)
    elif args.output == "id":
        print(found["id"])
    else:
        card(found)
    return Exit.DONE


def _add(args: Namespace) -> int:
    body = {"email": args.email, "name": args.name or args.email, "country": args.country}
    with connect(args) as client:
        return _tell(args, client.call("POST", _people(args.user), body=body))


def _act(args: Namespace, verb: str) -> int:
    with connect(args) as client:
        path = f"{_people(args.user)}/{args.subscriber}/actions/{verb}"
        return _tell(args, client.call("POST", path, body={}))


def _activate(args: Namespace) -> int:
    return _act(args, "activate")


def _deactivate(args: Namespace) -> int:
    return _act(args, "deactivate")


def _delete(args: Namespace) -> int:
    with connect(args) as client:
        client.call("DELETE", f"{_people(args.user)}/{args.subscriber}")
    if args.output == "text":
        print(f"subscriber {args.subscriber} of {args.user} is gone")
    return Exit.DONE


def _sessions_arguments(parser: ArgumentParser) -> None:
    parser.add_argument("--user", metavar="LOGIN", help="only those of that data user")
    add_output(parser)
    add_arguments(parser)


def _sessions(args: Namespace) -> int:
    query = {"user": args.user} if args.user else {}
    with connect(args) as client:
        listed(args, client.call("GET", SESSIONS, query=query)["items"], "id", SESSION)
    return Exit.DONE


def _end_arguments(parser: ArgumentParser) -> None:
    parser.add_argument("session", type=int, metavar="ID", help="its number")
    add_output(parser)
    add_arguments(parser)


def _end(args: Namespace) -> int:
    with connect(args) as client:
        client.call("DELETE", f"{SESSIONS}/{args.session}")
    if args.output == "text":
        print(f"session {args.session} is asked to hang up")
    return Exit.DONE


VERBS: Final = (
    Verb(words="subscriber list", help="list the people behind a self-service user",
         arguments=_user_arguments, run=_list),
    Verb(words="subscriber add", help="let a person in; the password is mailed and shown once",
         arguments=_add_arguments, run=_add),
    Verb(words="subscriber activate", help="let a person in by a new password, which is mailed",
         arguments=_one_arguments, run=_activate),
    Verb(words="subscriber deactivate", help="keep a person out; sessions end",
         arguments=_one_arguments, run=_deactivate),
    Verb(words="subscriber delete", help="remove a person; sessions end",
         arguments=_one_arguments, run=_delete),
    Verb(words="session list", help="list logins at the portal",
         arguments=_sessions_arguments, run=_sessions),
    Verb(words="session end", help="end a login at the portal",
         arguments=_end_arguments, run=_end),
)  # fmt: skip
