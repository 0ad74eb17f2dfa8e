"""`python -m hf_faceenh`: the command `hf-faceenh`, where its script is not on the path."""

import sys

from hf_faceenh.cli import main

if __name__ == "__main__":
    sys.exit(main())
