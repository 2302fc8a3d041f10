"""Pages of files that nobody changed are given back; what they hold is still there."""

import mmap
import re
from pathlib import Path

import pytest

from services.verifier.program_pages import MAPS, _clean, release_program_pages

FILE = """{range} {rights} 00000000 fe:00 123 {path}
Size: 8 kB
Rss: {rss} kB
Anonymous: {changed} kB
VmFlags: rd mr
"""


def maps(*mappings: tuple[str, str, int, int]) -> str:
    """Of (rights, path, resident kB, changed kB) each, at 0x1000, 0x3000, …"""
    texts = [
        FILE.format(
            range=f"{0x1000 + 0x2000 * i:x}-{0x3000 + 0x2000 * i:x}",
            rights=rights,
            path=path,
            rss=rss,
            changed=changed,
        )
        for i, (rights, path, rss, changed) in enumerate(mappings)
    ]
    return "".join(texts)


@pytest.mark.parametrize(
    ("mapping", "dropped"),
    [
        (("r-xp", "/lib/a.so", 8, 0), True),
        (("r--p", "/lib/a b.so", 4, 0), True),
        (("r--p", "/lib/a.so", 8, 4), False),  # of relocations
        (("rw-p", "/lib/a.so", 8, 0), False),
        (("r-xp", "", 8, 0), False),
        (("r-xp", "[vdso]", 8, 0), False),
        (("r-xp", "/lib/a.so", 0, 0), False),
    ],
)
def test_what_may_be_dropped(mapping: tuple[str, str, int, int], dropped: bool) -> None:
    found = list(_clean(maps(("rw-p", "[heap]", 8, 8), mapping, ("rw-p", "[stack]", 8, 8))))
    assert found == ([(0x3000, 0x5000, mapping[2] << 10)] if dropped else [])


@pytest.mark.skipif(not MAPS.is_file(), reason="this system does not say what a process has mapped")
def test_a_file_that_was_read_is_given_back_and_can_be_read_again(tmp_path: Path) -> None:
    path = tmp_path / "program"
    path.write_bytes(bytes(range(256)) * 4096)
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as mapped:
        assert len(bytes(mapped)) == 1 << 20
        assert resident(path) == 1024
        assert release_program_pages() >= 1 << 20
        assert resident(path) == 0
        assert bytes(mapped) == path.read_bytes()


def resident(path: Path) -> int:
    """kB of this file that this process has in memory."""
    (found,) = re.findall(rf"{re.escape(str(path))}\n(?:\w+: .*\n)*?Rss: +(\d+) kB", MAPS.read_text())
    return int(found)
