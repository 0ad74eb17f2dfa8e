"""What a visitor is told of a mistake that is ours, and what we are."""

import sys
import traceback
from pathlib import Path

from wishes import Refused


def reported(error: Exception) -> Refused:
    """What the visitor is told; where it happened is printed, but nothing of the visitor's."""
    places = [f"{Path(frame.filename).name}:{frame.lineno}" for frame in traceback.extract_tb(error.__traceback__)]
    print(f"{type(error).__name__} at {' > '.join(places)}", file=sys.stderr)
    return Refused("Something went wrong on our side. Please try again, or try another picture.")
