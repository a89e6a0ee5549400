"""`pytest -p tests.peer.machine.plugin`: what the tests launch is compiled for sm_90 and executed here."""

import os

os.environ["TRITON_INTERPRET"] = "0"  # read when a kernel is defined


def pytest_configure() -> None:
    from suites.binary.launches import stand_in
    from tests.peer.machine.launch import execute

    stand_in("sm_90", execute)
