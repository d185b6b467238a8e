"""The command line with small chunks: ``python -m tests.prediction.bulk_program ROWS predict …``."""

import sys
from pathlib import Path

from hf_multitask.cli import main
from hf_multitask.data.readers import chunked_file

if __name__ == "__main__":
    chunked_file.CHUNK_ROWS = int(sys.argv[1])
    status = main(sys.argv[2:])
    # getrusage would include the process that started this one.
    print("\n".join(line for line in Path("/proc/self/status").read_text().splitlines() if "VmHWM" in line))
    sys.exit(status)
