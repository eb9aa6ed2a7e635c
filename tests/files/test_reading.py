"""Reading regular files only, in full and bounded."""

import os
import socket
from pathlib import Path

import pytest

from fishnet.errors import InputError
from fishnet.files.reading import is_regular, read_bytes, read_text


def test_reads_a_file_and_a_link_to_it(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"\xef\xbb\xbfgr\xc3\xbcn")
    (tmp_path / "b").symlink_to("a")
    assert read_bytes(tmp_path / "b") == b"\xef\xbb\xbfgr\xc3\xbcn"
    assert read_text(tmp_path / "b") == "grün"
    assert is_regular(tmp_path / "b")


def test_special_files_are_refused_without_waiting(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with socket.socket(socket.AF_UNIX) as server:
        here = Path.cwd()
        os.chdir(tmp_path)  # the path of a socket is short
        try:
            server.bind("socket")
        finally:
            os.chdir(here)
        for name, words in (("pipe", "named pipe"), ("socket", "socket"), (".", "folder"), ("none", "no such file")):
            with pytest.raises(InputError, match=words):
                read_bytes(tmp_path / name, what="image")
            assert not is_regular(tmp_path / name)


@pytest.mark.parametrize("device", ["/dev/zero", "/dev/full", "/dev/random"])
def test_devices_are_refused(device: str) -> None:
    with pytest.raises(InputError, match=rf"{device}: is a device, not an image"):
        read_bytes(device, what="image")


def test_a_file_over_the_limit_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(bytes(11))
    assert len(read_bytes(tmp_path / "a", limit=11)) == 11
    with pytest.raises(InputError, match=r"11 bytes are too many for a table \(at most 10\)"):
        read_bytes(tmp_path / "a", limit=10, what="table")


def test_a_file_that_states_no_size_is_bounded() -> None:
    if not Path("/proc/kallsyms").exists():
        pytest.skip("needs Linux's /proc")
    with pytest.raises(InputError, match=r"too large|cannot be read"):
        read_bytes("/proc/kallsyms", limit=100)


def test_text_that_is_not_utf8_names_its_line(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"one\ntwo\xff\n")
    with pytest.raises(InputError, match="line 2: not UTF-8"):
        read_text(tmp_path / "a")


def test_a_path_with_a_nul_is_refused() -> None:
    with pytest.raises(InputError, match="null"):
        read_bytes("a\0b")
