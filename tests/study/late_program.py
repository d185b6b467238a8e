"""The command line in a process of a launcher. The first begins to write slowly, and the others look late."""

import os
import sys
import time
from unittest import mock

from hf_multitask.cli import main
from hf_multitask.study import study_plan

DELAYS = iter([3.0])


def replace_slowly(*args, replace=os.replace):
    time.sleep(next(DELAYS, 0.0))
    replace(*args)


def check_late(folder, settings, check=study_plan.check_folder):
    time.sleep(1.5)
    check(folder, settings)


if __name__ == "__main__":
    is_first = os.environ["RANK"] == "0"
    changed = (os, "replace", replace_slowly) if is_first else (study_plan, "check_folder", check_late)
    with mock.patch.object(*changed):
        sys.exit(main(sys.argv[1:]))
