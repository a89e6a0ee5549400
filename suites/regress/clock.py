"""The clock of a gate on a CPU: seconds that the process computed, not those it waited for a core.

On a shared runner the wall clock also measures the neighbours. Left out are sleeping and reading
files, of which a layer does neither; with several threads their seconds add up.
"""

import time

from suites.measure.time import Run


class ProcessorTimer:
    def sample(self, run: Run, before: Run, count: int) -> list[float]:
        """Processor seconds of `count` calls of `run`; `before` goes ahead of each, untimed."""
        seconds = []
        for _ in range(count):
            before()
            start = time.process_time()
            result = run()
            seconds.append(time.process_time() - start)
            del result
        return seconds
