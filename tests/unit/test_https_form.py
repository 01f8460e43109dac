"""Forms, whole and in pieces, right and wrong."""

from __future__ import annotations

import pytest

from ecpds.model.errors import EcpdsError, Incomplete, InputError, TooLarge
from ecpds.portals.https.exchange import Body, Take
from ecpds.portals.https.form import TEXT, Multipart, parameters, read_urlencoded

TYPE = "multipart/form-data; boundary=XX"
FORM = (
    b'preamble\r\n--XX\r\nContent-Disposition: form-data; name="note"\r\n\r\nhello\r\n'
    b'--XX \r\nContent-Type: text/plain\r\ncontent-disposition: form-data; name="file"; '
    b'filename="a b.txt"\r\n\r\none\r\ntwo\r\n--X\r\n\r\n--XX\r\n'
    b'Content-Disposition: form-data; name=file; filename=""\r\n\r\n\r\n--XX--\r\nepilogue'
)


class Pieces(Body):
    """A body in memory that comes in pieces."""

    def __init__(self, content: bytes, size: int = 1 << 20, *, cut: bool = False) -> None:
        self.length = len(content)
        self.announced = self.present = True
        self.complete = False
        self._left = [content[n : n + size] for n in range(0, len(content), size)]
        self._cut = cut

    async def read(self) -> bytes:
        if self._left:
            return self._left.pop(0)
        if self._cut:
            raise Incomplete("cut")
        return b""

    async def pour(self, take: Take) -> None:
        while block := await self.read():
            take(block)


async def parts(content: bytes, size: int = 1 << 20) -> list[tuple[str, str | None, bytes]]:
    form = Multipart(TYPE, Pieces(content, size))
    found = []
    async for part in form.parts():
        text = b"".join([block async for block in form.content()])
        found.append((part.name, part.filename, text))
    return found


@pytest.mark.parametrize("size", [1, 2, 3, 7, 50, 1000])
async def test_a_form_in_pieces(size: int) -> None:
    assert await parts(FORM, size) == [
        ("note", None, b"hello"),
        ("file", "a b.txt", b"one\r\ntwo\r\n--X\r\n"),
        ("file", "", b""),
    ]


async def test_unread_parts_are_passed_over() -> None:
    form = Multipart(TYPE, Pieces(FORM, 5))
    assert [part.name async for part in form.parts()] == ["note", "file", "file"]


async def test_a_form_without_parts() -> None:
    assert await parts(b"--XX--") == []


@pytest.mark.parametrize("end", range(10, FORM.index(b"--XX--") + 6, 11))
async def test_a_form_that_ends_early_is_incomplete(end: int) -> None:
    with pytest.raises(Incomplete):
        await parts(FORM[:end])


async def test_a_form_that_is_cut_after_its_closing_line_is_incomplete() -> None:
    form = Multipart(TYPE, Pieces(FORM, cut=True))
    found = form.parts()
    for _ in range(3):
        await anext(found)
    with pytest.raises(Incomplete):
        await anext(found)


@pytest.mark.parametrize(
    "content",
    [
        b"--XX\r\n\r\nno fields\r\n--XX--",
        b"--XX\r\nX: y\r\n\r\nno disposition\r\n--XX--",
        b"--XXY\r\nContent-Disposition: form-data; name=a\r\n\r\n\r\n--XX--",
        b"--XX\r\nX: " + b"y" * 20_000 + b"\r\n\r\n\r\n--XX--",
        b"--XX--" + b"x" * 100_000,
        b"--XX\r\nContent-Disposition: form-data; name=a\r\n\r\n\r\n" * 1001 + b"--XX--",
    ],
)
async def test_broken_forms_are_refused(content: bytes) -> None:
    with pytest.raises(InputError):
        await parts(content)


@pytest.mark.parametrize(
    "kind", ["multipart/form-data", "multipart/form-data; boundary=", f"x; boundary={'b' * 71}",
             'x; boundary="a\r\nb"', "x; boundary=a\u00e9"]
)  # fmt: skip
def test_a_form_needs_a_boundary(kind: str) -> None:
    with pytest.raises(InputError):
        Multipart(kind, Pieces(b""))


async def test_a_text_field_is_bounded() -> None:
    head = b"--XX\r\nContent-Disposition: form-data; name=a\r\n\r\n"
    form = Multipart(TYPE, Pieces(head + b"x" * (TEXT + 1) + b"\r\n--XX--"))
    await anext(form.parts())
    with pytest.raises(TooLarge):
        await form.text()


@pytest.mark.parametrize(
    ("value", "name"),
    [
        ('filename="C:\\dir\\a.txt"', "a.txt"),
        ('filename="../../etc/passwd"', "passwd"),
        ('filename="a%22b%0D%0A.txt"', 'a"b\r\n.txt'),
        ('filename="a%20b.txt"', "a%20b.txt"),  # only the three escapes of browsers
        ('filename="a\\"b"', 'a"b'),
        ("filename=\"x\"; filename*=UTF-8''%C3%A9.txt", "é.txt"),
        ("filename*=latin1''%E9.txt", None),
        ("name=x", None),
    ],
)
async def test_file_names(value: str, name: str | None) -> None:
    content = f"--XX\r\nContent-Disposition: form-data; name=f; {value}\r\n\r\n\r\n--XX--".encode()
    assert (await parts(content))[0][1] == name


def test_parameters() -> None:
    assert parameters('a/b; X="1;2" ;y = z; x=3') == {"x": "1;2", "y": "z"}


async def test_urlencoded_forms() -> None:
    assert await read_urlencoded(Pieces(b"a=1&b=%C3%A9+x&a=2&c", 3)) == {
        "a": "1",
        "b": "é x",
        "c": "",
    }
    wrong: list[tuple[bytes, type[EcpdsError]]] = [
        (b"a=" + b"x" * TEXT, TooLarge),
        (b"a=%ff", InputError),
        (b"\xff", InputError),
        (b"&".join(b"a=1" for _ in range(60)), InputError),
    ]
    for content, error in wrong:
        with pytest.raises(error):
            await read_urlencoded(Pieces(content, 1000))
