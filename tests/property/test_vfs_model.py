"""The tree behaves like a plain mapping of names to contents, whatever is done to it."""

from __future__ import annotations

import asyncio
import tempfile
from pathlib import Path

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ecpds.model.errors import EcpdsError
from ecpds.vfs.contract import Listing
from tests.tree import Tree, tree

NAMES = st.sampled_from(["a", "b", "a-b", "a.x", "é"])
PATHS = st.lists(NAMES, min_size=1, max_size=3).map("/".join)
ACTS = st.one_of(
    st.tuples(st.just("put"), PATHS, st.binary(max_size=8)),
    st.tuples(st.just("delete"), PATHS, st.none()),
    st.tuples(st.just("mkdir"), PATHS, st.none()),
    st.tuples(st.just("rmdir"), PATHS, st.booleans()),
    st.tuples(st.just("rename"), PATHS, st.tuples(PATHS, st.booleans())),
)


class Model:
    """What a file system with implied directories would hold."""

    def __init__(self) -> None:
        self.files: dict[str, bytes] = {}
        self.made: set[str] = set()

    def directories(self) -> set[str]:
        """Return every directory, made or implied."""
        found = set()
        for path in (*self.files, *(f"{one}/x" for one in self.made)):
            while "/" in path:
                path = path.rpartition("/")[0]
                found.add(path)
        return found

    def below(self, path: str) -> list[str]:
        """Return the files below a directory."""
        return [name for name in self.files if name.startswith(f"{path}/")]

    def blocked(self, path: str) -> bool:
        """Tell whether a part of the path is a file."""
        parts = path.split("/")
        return any("/".join(parts[:count]) in self.files for count in range(1, len(parts)))

    def put(self, path: str, content: bytes) -> bool:
        """Return whether it works; do it then."""
        if path in self.directories() or self.blocked(path):
            return False
        self.files[path] = content
        return True

    def delete(self, path: str) -> bool:
        """Return whether it works; do it then."""
        return self.files.pop(path, None) is not None

    def mkdir(self, path: str) -> bool:
        """Return whether it works; do it then."""
        if path in self.files or path in self.directories() or self.blocked(path):
            return False
        self.made.add(path)
        return True

    def rmdir(self, path: str, recursive: bool) -> bool:
        """Return whether it works; do it then."""
        if path not in self.directories():
            return False
        deeper = [one for one in self.made if one.startswith(f"{path}/")]
        if (deeper or self.below(path)) and not recursive:
            return False
        for name in self.below(path):
            del self.files[name]
        self.made -= {path, *deeper}
        return True

    def rename(self, old: str, new: str, replace: bool) -> bool:
        """Return whether it works; do it then."""
        if old in self.files:
            if old == new:
                return True
            if (
                new in self.directories()
                or self.blocked(new)
                or (new in self.files and not replace)
            ):
                return False
            self.files[new] = self.files.pop(old)
            return True
        if old not in self.directories() or new.startswith(f"{old}/"):
            return False
        if new in self.files or new in self.directories() or self.blocked(new):
            return False
        moved = {new + name[len(old) :]: self.files.pop(name) for name in self.below(old)}
        self.files |= moved
        made = {one for one in self.made if one == old or one.startswith(f"{old}/")}
        self.made = (self.made - made) | {new + one[len(old) :] for one in made}
        return True


async def act(t: Tree, kind: str, path: str, value: object) -> bool:
    """Do one thing in the tree; tell whether it worked."""
    full = f"/NORTH/{path}"
    try:
        if kind == "put":
            assert isinstance(value, bytes)
            await t.put(full, value)
        elif kind == "rmdir":
            await t.session.rmdir(full, recursive=bool(value))
        elif kind == "rename":
            assert isinstance(value, tuple)
            await t.session.rename(full, f"/NORTH/{value[0]}", replace=value[1])
        else:
            await getattr(t.session, kind)(full)
    except EcpdsError:
        return False
    return True


async def walk(t: Tree, path: str = "/NORTH") -> tuple[dict[str, bytes], set[str]]:
    """Return all files with their contents, and all directories, as listings show them."""
    found: dict[str, bytes] = {}
    directories: set[str] = set()
    names = await t.names(path, sort="target")
    assert names == (await t.names(path, sort="target", order="desc"))[::-1]
    assert sorted(names) == sorted(await t.names(path)) == sorted(await t.names(path, sort="size"))
    async for node in t.session.list(path, Listing()):
        inner = node.path.removeprefix("/NORTH/")
        assert (await t.session.stat(node.path)).kind == node.kind
        if node.is_directory:
            directories.add(inner)
            deeper = await walk(t, node.path)
            found |= deeper[0]
            directories |= deeper[1]
        else:
            found[inner] = await t.get(node.path)
    return found, directories


def same(kind: str, model: Model, path: str, value: object) -> bool:
    """Do the same to the model."""
    if kind == "rename":
        assert isinstance(value, tuple)
        return model.rename(path, *value)
    if kind in {"put", "rmdir"}:
        return bool(getattr(model, kind)(path, value))
    return bool(getattr(model, kind)(path))


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(ACTS, max_size=25))
def test_the_tree_is_a_mapping_of_names(acts: list[tuple[str, str, object]]) -> None:
    """Each act works in both or in neither, and both then hold the same."""

    async def run() -> None:
        model = Model()
        with tempfile.TemporaryDirectory() as folder:
            async with tree(Path(folder)) as t:
                for kind, path, value in acts:
                    expected = same(kind, model, path, value)
                    assert await act(t, kind, path, value) is expected, (kind, path, value)
                assert await walk(t) == (model.files, model.directories())

    asyncio.run(run())
