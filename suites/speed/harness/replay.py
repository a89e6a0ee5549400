"""How samples enter pytest-benchmark: its timer is a clock that jumps by a sample per round."""

from collections.abc import Iterator


class Replay:
    """`now` is the timer, `advance` the callable of a pedantic run, one round per sample."""

    def __init__(self) -> None:
        self.now_s = 0.0
        self.samples: Iterator[float] = iter(())

    def load(self, seconds: list[float]) -> None:
        self.now_s, self.samples = 0.0, iter(seconds)

    def now(self) -> float:
        return self.now_s

    def advance(self) -> None:
        self.now_s += next(self.samples, 0.0)


clock = Replay()
