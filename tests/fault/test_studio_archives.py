"""Hostile and damaged archives: no byte outside the target, each refusal named, nothing eaten up."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import os
import resource
import stat
import struct
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from loratui.dataset.archive import Limits, is_archive, unpack
from loratui.errors import DatasetError

SMALL = Limits(files=50, file_bytes=2_000_000, total_bytes=3_000_000)


def zip_of(path: Path, *entries: tuple[str | zipfile.ZipInfo, bytes]) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in entries:
            archive.writestr(name, data)
    return path


def zip_mode(name: str, mode: int) -> zipfile.ZipInfo:
    info = zipfile.ZipInfo(name)
    info.create_system = 3
    info.external_attr = mode << 16
    return info


def tar_of(path: Path, *entries: tarfile.TarInfo, data: bytes = b"evil") -> Path:
    with tarfile.open(path, "w") as archive:
        for info in entries:
            if info.isreg():
                info.size = len(data)
            archive.addfile(info, io.BytesIO(data) if info.isreg() else None)
    return path


def entry(name: str, kind: bytes = tarfile.REGTYPE, link: str = "") -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, link
    return info


EVIL_NAMES = [
    *(
        "../evil.png",
        "../../evil.png",
        "a/../../evil.png",
        "a/b/../../../evil.png",
        "..",
        "a/..",
        "/evil.png",
    ),
    *("//evil.png", "/tmp/../evil.png", "..\\evil.png", "a\\..\\..\\evil.png", "C:\\evil.png", "c:/evil.png"),
    *(
        "\\evil.png",
        "\\\\host\\share\\evil.png",
        "./../evil.png",
        "x" * 256 + ".png",
        "/".join(["d"] * 40) + "/e.png",
    ),
    *(".", "é" * 200 + ".png"),
]
LINKS: list[Callable[[Path], Path]] = [
    lambda p: tar_of(p / "l1.tar", entry("out", tarfile.SYMTYPE, "/"), entry("out/evil.png")),
    lambda p: tar_of(p / "l2.tar", entry("out", tarfile.SYMTYPE, ".."), entry("out/evil.png")),
    lambda p: tar_of(p / "l3.tar", entry("a.png", tarfile.SYMTYPE, "../../victim.png"), entry("a.png")),
    lambda p: tar_of(p / "l4.tar", entry("a.png", tarfile.LNKTYPE, "../../victim.png"), entry("a.png")),
    lambda p: tar_of(p / "l5.tar", entry("a.png", tarfile.LNKTYPE, "/etc/passwd")),
    lambda p: tar_of(p / "d1.tar", entry("a.png", tarfile.CHRTYPE)),
    lambda p: tar_of(p / "d2.tar", entry("a.png", tarfile.BLKTYPE)),
    lambda p: tar_of(p / "d3.tar", entry("a.png", tarfile.FIFOTYPE)),
    lambda p: zip_of(p / "l6.zip", (zip_mode("out", stat.S_IFLNK | 0o777), b".."), ("out/evil.png", b"evil")),
    lambda p: zip_of(p / "l7.zip", (zip_mode("a.png", stat.S_IFLNK | 0o777), b"/etc/passwd")),
    lambda p: zip_of(p / "d4.zip", (zip_mode("a.png", stat.S_IFCHR | 0o777), b"")),
    lambda p: zip_of(p / "d5.zip", (zip_mode("a.png", stat.S_IFIFO | 0o777), b"")),
]
HOSTILE: list[tuple[str, Callable[[Path], Path]]] = [
    *(
        (f"zip-{i}", lambda p, n=n: zip_of(p / "n.zip", (n, b"evil"), ("good.png", b"good")))
        for i, n in enumerate(EVIL_NAMES)
    ),
    *(
        (f"tar-{i}", lambda p, n=n: tar_of(p / "n.tar", entry(n), entry("good.png")))
        for i, n in enumerate(EVIL_NAMES)
    ),
    *((f"link-{i}", make) for i, make in enumerate(LINKS)),
]


def everything(folder: Path) -> dict[str, bytes | None]:
    return {str(p.relative_to(folder)): p.read_bytes() if p.is_file() else None for p in folder.rglob("*")}


@pytest.mark.parametrize("make", [m for _, m in HOSTILE], ids=[n for n, _ in HOSTILE])
def test_no_byte_leaves_the_target(tmp_path: Path, make: Callable[[Path], Path]) -> None:
    (tmp_path / "archives").mkdir()
    source = make(tmp_path / "archives")
    inner = tmp_path / "one" / "two"
    inner.mkdir(parents=True)
    (tmp_path / "victim.png").write_bytes(b"safe")
    before = everything(tmp_path)
    found = unpack(source, inner / "target", limits=SMALL)
    after = {k: v for k, v in everything(tmp_path).items() if not k.startswith("one/two/target")}
    assert after == before
    assert found.problems, "nothing was said about it"
    for path in (inner / "target").rglob("*"):
        assert not path.is_symlink() and (path.is_dir() or path.is_file())
        assert path.is_dir() or path.stat().st_nlink == 1
    assert not os.path.lexists("/evil.png")


def test_there_are_forty_of_them() -> None:
    assert len(HOSTILE) >= 40


def bomb_zip(path: Path) -> Path:
    return zip_of(path / "bomb.zip", ("a.png", bytes(40_000_000)))


def many(path: Path) -> Path:
    return zip_of(path / "many.zip", *((f"{i}.png", b"") for i in range(60)))


def many_tar(path: Path) -> Path:
    return tar_of(path / "many.tar", *(entry(f"{i}", tarfile.DIRTYPE) for i in range(60)))


def total(path: Path) -> Path:
    return zip_of(path / "total.zip", *((f"{i}.png", os.urandom(1_000_000)) for i in range(4)))


def tar_bomb(path: Path) -> Path:
    tar_of(path / "x.tar", entry("a.png"), data=bytes(40_000_000))
    (path / "bomb.tar.gz").write_bytes(gzip.compress((path / "x.tar").read_bytes()))
    return path / "bomb.tar.gz"


def pax_bomb(path: Path) -> Path:
    """A header that claims two gigabytes of names."""
    info = tarfile.TarInfo("x")
    info.type, info.size = tarfile.XHDTYPE, 2_000_000_000
    zeros = gzip.compress(info.tobuf(tarfile.PAX_FORMAT) + bytes(50_000_000))
    (path / "pax.tar.gz").write_bytes(zeros)
    return path / "pax.tar.gz"


def long_name_bomb(path: Path) -> Path:
    info = tarfile.TarInfo("././@LongLink")
    info.type, info.size = tarfile.GNUTYPE_LONGNAME, 1_000_000_000
    (path / "long.tar").write_bytes(info.tobuf(tarfile.GNU_FORMAT) + bytes(4096))
    return path / "long.tar"


def truncated_zip(path: Path) -> Path:
    data = total(path).read_bytes()
    (path / "t.zip").write_bytes(data[: len(data) // 2])
    return path / "t.zip"


def truncated_tar(path: Path) -> Path:
    data = tar_of(path / "x.tar", entry("a.png"), entry("b.png"), data=bytes(3000)).read_bytes()
    (path / "t.tar").write_bytes(data[:3000])
    return path / "t.tar"


def garbage_tar(path: Path) -> Path:
    data = bytearray(tar_of(path / "x.tar", entry("a.png"), entry("b.png")).read_bytes())
    data[1024:1536] = os.urandom(512)
    (path / "g.tar").write_bytes(data)
    return path / "g.tar"


def bad_crc(path: Path) -> Path:
    data = bytearray(zip_of(path / "x.zip", ("a.png", os.urandom(500))).read_bytes())
    data[60] ^= 255
    (path / "crc.zip").write_bytes(data)
    return path / "crc.zip"


def cut_stream(pack: Callable[[bytes], bytes], name: str) -> Callable[[Path], Path]:
    def make(path: Path) -> Path:
        raw = tar_of(path / "x.tar", entry("a.png"), data=os.urandom(100_000)).read_bytes()
        (path / name).write_bytes(pack(raw)[:-5000])
        return path / name

    return make


def not_one(path: Path) -> Path:
    (path / "x.zip").write_bytes(b"hello, this is no archive")
    return path / "x.zip"


def empty(path: Path) -> Path:
    (path / "x.tar").write_bytes(b"")
    return path / "x.tar"


def size_lie(path: Path) -> Path:
    """The directory of the zip says 10 bytes, the stream gives forty megabytes."""
    data = bytearray(bomb_zip(path).read_bytes())
    at = data.rindex(b"PK\x01\x02")
    data[at + 24 : at + 28] = struct.pack("<I", 10)
    (path / "lie.zip").write_bytes(data)
    return path / "lie.zip"


WHOLE_REFUSED = [
    *(
        bomb_zip,
        many,
        many_tar,
        total,
        tar_bomb,
        pax_bomb,
        long_name_bomb,
        truncated_zip,
        truncated_tar,
        garbage_tar,
    ),
    *(bad_crc, not_one, empty, size_lie),
    *(
        cut_stream(gzip.compress, "x.tgz"),
        cut_stream(bz2.compress, "x.tar.bz2"),
        cut_stream(lzma.compress, "x.tar.xz"),
    ),
]


@pytest.mark.parametrize("make", WHOLE_REFUSED, ids=lambda m: getattr(m, "__name__", "x"))
def test_limits_and_damage_leave_nothing(tmp_path: Path, make: Callable[[Path], Path]) -> None:
    (tmp_path / "archives").mkdir()
    source = make(tmp_path / "archives")
    (tmp_path / "in").mkdir()
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(DatasetError) as caught:
        unpack(source, tmp_path / "in" / "target", limits=SMALL)
    assert caught.value.advice
    assert not list((tmp_path / "in").iterdir())
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 200_000


@pytest.mark.parametrize("name", ["x.tar", "x.tar.gz", "x.tgz", "x.tar.bz2", "x.tar.xz", "x.zip", "odd.bin"])
def test_good_ones_come_out(tmp_path: Path, name: str) -> None:
    names = ["a.png", "10_sks dog/b.jpg", "10_sks dog/b.txt", "[/b]\x1b[31m\n.png", "readme.md", "x/é.png"]
    if name.endswith(("zip", "bin")):
        source = zip_of(tmp_path / name, *((n, n.encode()) for n in names))
    else:
        raw = tar_of(tmp_path / "raw.tar", *(entry(n) for n in names), data=b"data").read_bytes()
        pack = {"gz": gzip.compress, "bz2": bz2.compress, "xz": lzma.compress}
        how = pack.get({"tgz": "gz"}.get(name.split(".")[-1], name.split(".")[-1]), lambda d: d)
        (tmp_path / name).write_bytes(how(raw))
        source = tmp_path / name
    assert is_archive(source) or name == "odd.bin"
    found = unpack(source, tmp_path / "out", keep=lambda n: not n.endswith(".md"))
    assert sorted(map(str, found.files)) == sorted(n for n in names if n != "readme.md")
    assert not found.problems and found.bytes > 0
    with pytest.raises(DatasetError, match="exists already"):
        unpack(source, tmp_path / "out")


def test_twins_and_encrypted_ones_are_named(tmp_path: Path) -> None:
    source = zip_of(tmp_path / "x.zip", ("a.png", b"1"), ("A.png", b"2"), ("b", b"3"), ("b/c.png", b"4"))
    reasons = [p.message for p in unpack(source, tmp_path / "out").problems]
    assert reasons == [
        "is left out: another entry has the same name.",
        "is left out: a file and a folder have the same name.",
    ]
    data = bytearray(zip_of(tmp_path / "e.zip", ("a.png", b"1")).read_bytes())
    data[6] |= 1
    data[data.rindex(b"PK\x01\x02") + 8] |= 1
    (tmp_path / "e.zip").write_bytes(data)
    assert "encrypted" in unpack(tmp_path / "e.zip", tmp_path / "out2").problems[0].message
