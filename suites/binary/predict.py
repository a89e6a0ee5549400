"""How long counted instructions and bytes may take on an H200: a prediction, never a measurement.

The slowest of issuing, DRAM and L2, a share of the second slowest, and launches. What cannot be known
without a GPU stands in `ASSUMPTIONS`: instructions per cycle, and what random rows leave of the
bandwidth. The order of two predictions holds over the whole range; a time alone is ±30 % at best.
"""

from typing import NamedTuple

MULTIPROCESSORS = 132
CLOCK_HZ = 1.9e9
BYTES_PER_SECOND = 4.3e12  # measured device-to-device copy of an H200, as in `peer.explain`
L2_BYTES_PER_SECOND = 5.5e12
OVERLAP = 0.15  # of the second slowest that is not hidden
LAUNCH_US = 3.0


class Assumption(NamedTuple):
    instructions_per_cycle: float  # of the four that a multiprocessor can issue
    bandwidth: float  # share of BYTES_PER_SECOND


ASSUMPTIONS = {
    "least": Assumption(2.6, 1.0),
    "likely": Assumption(2.0, 0.92),
    "most": Assumption(1.5, 0.85),
}


def predicted_us(
    warp_instructions: float, dram_bytes: float, l2_bytes: float, launches: int
) -> dict[str, float]:
    """Microseconds by the name of the assumption."""
    times = {}
    for name, (per_cycle, share) in ASSUMPTIONS.items():
        issue = warp_instructions / (MULTIPROCESSORS * CLOCK_HZ * per_cycle)
        memory = dram_bytes / (BYTES_PER_SECOND * share)
        *_, second, slowest = sorted((issue, memory, l2_bytes / L2_BYTES_PER_SECOND))
        times[name] = (slowest + OVERLAP * second) * 1e6 + LAUNCH_US * launches
    return times


def floor_us(dram_bytes: float) -> float:
    """The compulsory bytes at the speed of a copy."""
    return dram_bytes / BYTES_PER_SECOND * 1e6
