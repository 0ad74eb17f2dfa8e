"""What training/evaluate.py measured, as it stands in a results.json."""

import json
from pathlib import Path
from typing import Any

from hf_faceenh.errors import explained


def read_results(path: str | Path) -> dict[str, Any]:
    """A results.json of training/evaluate.py.

    Raises:
        ValueError, OSError: in one line, for a file that is missing or holds something else.
    """
    wrong = (ValueError, TypeError, KeyError, AttributeError)
    with explained(f"{path} is not a results.json of training/evaluate.py", of=wrong):
        results = json.loads(Path(path).read_text(encoding="utf-8"))
        for row in results["rows"]:
            if not {"model", "level", "pictures", "metrics"} <= row.keys():
                raise KeyError("a row lacks model, level, pictures or metrics")
    return results
