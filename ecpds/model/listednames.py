"""What a listed name becomes: full path at the source, first target, unique name.

Spec: acquisition.md sections 7 and 8.
"""

from __future__ import annotations

import re
from datetime import datetime
from typing import Final

from ecpds.model.acquisition import AcquisitionOptions
from ecpds.model.dates import milliseconds

_URL: Final = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://")


def is_absolute(name: str) -> bool:
    """Tell whether a listed name is a full path or a URL by itself."""
    return name[:1] in {"/", "\\"} or _URL.match(name) is not None


def joined(path: str, name: str) -> str:
    """Put a name or wildcard behind a path, which is a directory and gets its missing `/`."""
    if not path or not name or path.endswith(("/", "\\")) or name.startswith("/"):
        return path + name
    return f"{path}/{name}"


def original_of(path: str, name: str) -> str:
    """Return the full path of a listed name; an absolute one stays as it is."""
    return name if is_absolute(name) else joined(path, name)


def initial_target(name: str, link: str = "", *, remove_parameters: bool = False) -> str:
    """Return the first target of a listed name, what `$target` stands for.

    A relative name is kept whole, an absolute one or a URL gives its last part.  An absolute link
    that leads to a bare name gets that name.
    """
    if not is_absolute(name):
        return name.partition("?")[0] if remove_parameters else name
    if link and "/" not in link and "\\" not in link:
        return link
    path, mark, query = name.partition("?") if _URL.match(name) else (name, "", "")
    last = re.split(r"[/\\]", path)[-1]
    if remove_parameters:
        return last.partition("?")[0]
    return last + mark + query


def last_part(target: str) -> str:
    """Return what `$name` stands for: the last part of the first target."""
    return target.rpartition("/")[2]


def unique_name(
    original: str, target: str, mtime: datetime | None, options: AcquisitionOptions
) -> str:
    """Return what tells files of one target apart; empty when the target alone does."""
    if options.unique_by_target:
        base = ""
    elif options.target_as_unique_name:
        base = target
    else:
        base = original
    if options.unique_by_time and mtime is not None:
        return f"{base}.{milliseconds(mtime)}"
    return base
