from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from wavescale.checkpoint.descriptors import Descriptors


def files(folder: Path, count: int) -> list[Path]:
    found = [folder / f"{number}" for number in range(count)]
    for number, path in enumerate(found):
        path.write_bytes(bytes([number]))
    return found


def is_open(descriptor: int) -> bool:
    try:
        os.fstat(descriptor)
    except OSError:
        return False
    return True


def test_files_stay_open_but_not_too_many(tmp_path: Path) -> None:
    opened, seen = Descriptors(os.O_RDONLY, most=2), []
    for path in files(tmp_path, 3):
        with opened.of(path) as descriptor:
            seen.append(descriptor)
            assert os.pread(descriptor, 1, 0) == path.read_bytes()
    with opened.of(tmp_path / "2") as descriptor:
        assert descriptor == seen[2]
    assert sum(map(is_open, set(seen))) == 2
    assert opened.close() == []
    assert not any(map(is_open, seen))


def test_a_file_in_use_is_not_closed(tmp_path: Path) -> None:
    opened, (first, *others) = Descriptors(os.O_RDONLY, most=1), files(tmp_path, 5)
    with opened.of(first) as descriptor:
        for path in others:
            with opened.of(path) as other:
                assert os.pread(other, 1, 0) == path.read_bytes()
        assert os.pread(descriptor, 1, 0) == b"\0"
    opened.close()


def test_threads_share_them(tmp_path: Path) -> None:
    opened, paths = Descriptors(os.O_RDONLY, most=3), files(tmp_path, 10)

    def read(path: Path) -> bytes:
        with opened.of(path) as descriptor:
            return os.pread(descriptor, 1, 0)

    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(read, paths * 50)) == [bytes([number]) for number in range(10)] * 50
    opened.close()


def test_what_closing_one_says_is_kept_and_the_others_are_closed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened, close = Descriptors(os.O_RDONLY, most=1), os.close
    seen: list[int] = []

    def close_badly(descriptor: int) -> None:
        close(descriptor)
        if descriptor == seen[0]:
            raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "close", close_badly)
    for path in files(tmp_path, 2):
        with opened.of(path) as descriptor:
            seen.append(descriptor)
    assert [failure.errno for failure in opened.close()] == [28]
    assert not any(map(is_open, seen))


def test_a_file_that_is_not_there_is_an_error(tmp_path: Path) -> None:
    opened = Descriptors(os.O_RDONLY)
    with pytest.raises(FileNotFoundError), opened.of(tmp_path / "missing"):
        pass
