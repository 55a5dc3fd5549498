"""The progress bar: on terminals only, and only where work takes a while."""

from __future__ import annotations

import io

import pytest

from savax.saved_model.cli._progress import Progress


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


class Clock:
    def __init__(self) -> None:
        self.seconds = 100.0

    def __call__(self) -> float:
        return self.seconds


def test_short_work_shows_nothing() -> None:
    stream, clock = Terminal(), Clock()
    with Progress("verifying", 100, stream=stream, clock=clock) as progress:
        clock.seconds += 0.4
        progress.advance(100)
    assert stream.getvalue() == ""


def test_long_work_shows_share_rate_and_rest() -> None:
    stream, clock = Terminal(), Clock()
    with Progress("verifying", 4_000_000, stream=stream, clock=clock) as progress:
        clock.seconds += 2
        progress.advance(1_000_000)
        assert "verifying [#######" in stream.getvalue()
        assert " 25%  500 kB/s, 6 s left" in stream.getvalue()
        assert "\n" not in stream.getvalue()
    assert stream.getvalue().endswith("\r\x1b[K")  # leaves the line empty


def test_it_is_drawn_ten_times_a_second_at_most() -> None:
    stream, clock = Terminal(), Clock()
    with Progress("verifying", 1000, stream=stream, clock=clock) as progress:
        for _ in range(1000):
            clock.seconds += 0.001
            progress.advance(1)
    assert stream.getvalue().count("[K") <= 7


@pytest.mark.parametrize("total_bytes", [0, 10])
def test_more_than_all_is_all(total_bytes: int) -> None:
    stream, clock = Terminal(), Clock()
    with Progress("verifying", total_bytes, stream=stream, clock=clock) as progress:
        clock.seconds += 1
        progress.advance(20)
    assert "100%" in stream.getvalue()


def test_nothing_goes_into_files() -> None:
    stream, clock = io.StringIO(), Clock()
    with Progress("verifying", 10, stream=stream, clock=clock) as progress:
        clock.seconds += 9
        progress.advance(5)
    assert stream.getvalue() == ""
