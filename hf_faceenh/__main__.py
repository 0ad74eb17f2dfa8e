"""`python -m hf_faceenh`: the command `hf-faceenh`, where its script is not on the path."""

import sys

from hf_faceenh.cli import main

sys.exit(main())
