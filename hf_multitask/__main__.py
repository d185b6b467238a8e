"""``python -m hf_multitask``, also under ``torchrun -m`` and ``accelerate launch -m``."""

import sys

from .cli import main

sys.exit(main())
