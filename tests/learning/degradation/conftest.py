import cv2
import numpy as np
import pytest


@pytest.fixture(scope="session")
def face():
    """A picture with smooth and with sharp parts, `[96, 96, 3]` uint8."""
    y, x = np.mgrid[:96, :96]
    checks = (x // 8 + y // 8) % 2 * 60
    picture = np.stack([x * 2 + checks, y * 2 + checks, checks + 90], axis=2)
    return cv2.GaussianBlur(picture.astype(np.uint8), (0, 0), 0.7)  # WebP is not made for chessboards
