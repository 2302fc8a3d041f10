"""CPU times from /proc, with test files and with the real ones."""

import os
import sys
from pathlib import Path

import pytest

from services.verifier import cpu_times
from services.verifier.cpu_times import CpuTimes, read_cpu_times

STAT = """cpu  1000 2000 300 40000 5 0 60 7 0 0
cpu0 400 900 100 20000 2 1 30 3 0 0
cpu1 600 1100 200 20000 3 2 30 4 0 0
cpu2 999999 0 0 0 0 0 0 0 0 0
intr 12345
"""


@pytest.fixture
def proc(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for task, waited in (("11", 1_500_000_000), ("12", 250_000_000)):
        (tmp_path / "task" / task).mkdir(parents=True)
        (tmp_path / "task" / task / "schedstat").write_text(f"999 {waited} 7\n")
    (tmp_path / "stat").write_text(STAT)
    monkeypatch.setattr(cpu_times, "TASKS", tmp_path / "task")
    monkeypatch.setattr(cpu_times, "STAT", tmp_path / "stat")
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 1}, raising=False)
    monkeypatch.setattr(os, "sysconf", lambda _: 100)
    monkeypatch.setattr(os, "getpriority", lambda *_: 0)
    monkeypatch.setattr(sys, "platform", "linux")
    return tmp_path


def test_threads_waits_are_summed_and_only_our_cores_count(proc: Path) -> None:
    times = read_cpu_times()
    assert times is not None
    assert times.waited == pytest.approx(1.75)
    assert times.total == pytest.approx((400 + 100 + 1 + 30 + 600 + 200 + 2 + 30) / 100)


def test_a_niced_process_counts_the_niced_others(proc: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "getpriority", lambda *_: 5)
    times = read_cpu_times()
    assert times is not None
    assert times.total == pytest.approx((1363 + 900 + 1100) / 100)


def test_a_thread_that_ends_meanwhile_is_left_out(proc: Path) -> None:
    (proc / "task" / "13").mkdir()
    times = read_cpu_times()
    assert times is not None
    assert times.waited == pytest.approx(1.75)


@pytest.mark.parametrize("broken", ["stat", "task/11/schedstat"])
def test_a_system_that_does_not_tell_is_none(proc: Path, broken: str) -> None:
    (proc / broken).write_text("cpu0 none\n")
    assert read_cpu_times() is None


def test_other_systems_are_none(proc: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "platform", "darwin")
    assert read_cpu_times() is None


def test_differences_and_others() -> None:
    spent = CpuTimes(10.5, 1.25, 7.0, 30.5).since(CpuTimes(10.0, 1.0, 6.2, 29.5))
    assert spent.wall == pytest.approx(0.5)
    assert spent.waited == pytest.approx(0.25)
    assert spent.others == pytest.approx(0.2)
    assert CpuTimes(1, 0, 0.5, 0.4).others == 0, "ticks are coarse: less than nothing is nothing"


@pytest.mark.skipif(not Path("/proc/self/schedstat").exists(), reason="no scheduling statistics here")
def test_the_real_files_grow() -> None:
    before = read_cpu_times()
    sum(i * i for i in range(300_000))
    after = read_cpu_times()
    assert before is not None
    assert after is not None
    spent = after.since(before)
    assert spent.wall > 0
    assert spent.own > 0
    assert spent.waited >= 0
