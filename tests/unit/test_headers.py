"""Header tables of real products, and of broken ones."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ecpds.model.headers import Table, table_of

PRODUCTS = Path(__file__).parents[2] / "config" / "demo" / "products"


def look(content: bytes) -> Table | None:
    return table_of(lambda offset, length: content[offset : offset + length], len(content))


@pytest.mark.parametrize(
    ("name", "kind", "count", "first"),
    [
        ("gfs_prmsl_2006100400_072.grib2", "GRIB", 1,
         ("1", "2", "7", "0.3.1", "101: 0", "2006-10-04 00:00", "72", "65160", "114212")),
        ("nam_awp211_2018091700_surface.grib2", "GRIB", 4,
         ("1", "2", "7", "0.3.1", "101: 0", "2018-09-17 00:00", "0", "6045", "8858")),
        ("ifs_tropical_cyclone_tracks_20151118.bufr", "BUFR", 3,
         ("1", "4", "98", "7.0", "16", "2015-11-18 00:00", "52", "16773")),
        ("ifs_tuv_levels_2018080112.nc", "NetCDF", 7,
         ("longitude", "float", "longitude=12", "degrees_east", "longitude")),
        ("ifs_t2m_msl_2020051312.nc", "NetCDF-4 or HDF5", 0, None),
    ],
)  # fmt: skip
def test_real_products(name: str, kind: str, count: int, first: tuple[str, ...] | None) -> None:
    table = look((PRODUCTS / name).read_bytes())
    assert table is not None
    assert (table.kind, len(table.rows)) == (kind, count)
    assert first is None or table.rows[0] == first


def test_grib_1_with_a_bulletin_in_front() -> None:
    pds = bytearray(28)
    pds[0:3], pds[3], pds[4], pds[8], pds[9] = b"\x00\x00\x1c", 128, 98, 167, 1
    pds[12:17], pds[18], pds[24] = bytes((31, 5, 4, 12, 0)), 6, 21
    message = b"GRIB" + (8 + 28 + 4).to_bytes(3, "big") + b"\x01" + bytes(pds) + b"7777"
    table = look(b"\r\r\nHTXX85 ECMF 040000\r\r\n" + message)
    assert table is not None
    assert table.rows[0] == ("1", "1", "98", "128.167", "1: 0", "2031-05-04 12:00", "6", "", "40")


def test_other_files_and_cut_ones() -> None:
    assert look(b"") is None
    assert look(b"text about GRIB") is None
    assert look(b"CDF\x03rest") is None
    content = (PRODUCTS / "gfs_prmsl_2006100400_072.grib2").read_bytes()
    cut = look(content[:5000])
    assert cut is not None
    assert "cut off" in cut.note
    many = look(content[:200] and content * 150)
    assert many is not None
    assert (len(many.rows), "first 100" in many.note) == (100, True)


@given(
    st.sampled_from(["gfs_prmsl_2006100400_072.grib2", "ifs_tuv_levels_2018080112.nc",
                     "ifs_tropical_cyclone_tracks_20151118.bufr"]),
    st.integers(0, 2000),
    st.binary(max_size=12),
    st.integers(0, 4000),
)  # fmt: skip
def test_broken_headers_break_nothing(name: str, place: int, noise: bytes, end: int) -> None:
    """A table or none, whatever the bytes are; and never more rows than stated."""
    content = (PRODUCTS / name).read_bytes()[:4000]
    table = look((content[:place] + noise + content[place + len(noise) :])[:end])
    assert table is None or len(table.rows) <= 100
