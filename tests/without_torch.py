"""Run a module where importing torch fails: python -m tests.without_torch MODULE [ARGUMENT ...]."""

import runpy
import sys


class Absent:
    """An import hook; None in `sys.modules` would tell libraries that torch is loaded."""

    def find_spec(self, name: str, path: object = None, target: object = None) -> None:
        if name.partition(".")[0] == "torch":
            raise ModuleNotFoundError(f"no module named {name!r}", name=name)


if __name__ == "__main__":
    sys.meta_path.insert(0, Absent())
    sys.argv = sys.argv[1:]
    runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)
