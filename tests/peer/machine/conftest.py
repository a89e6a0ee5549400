"""Defects are planted in compiled kernels, so only a process that executes kernels collects them."""

import sys

collect_ignore = [] if "tests.peer.machine.plugin" in sys.modules else ["test_planted.py"]
