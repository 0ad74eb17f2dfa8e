"""training/calibrate_detail.py."""

import re
import runpy
from pathlib import Path

import pytest
from PIL import Image

SCRIPT = Path(__file__).parents[2] / "training" / "calibrate_detail.py"


def test_every_damage_has_its_detail(tmp_path, astronaut, capsys):
    main = runpy.run_path(str(SCRIPT))["main"]
    with pytest.raises(ValueError, match="There is no picture in .*; expected aligned faces of 512 px"):
        main(["--faces", str(tmp_path)])
    with Image.open(astronaut) as photo:
        photo.convert("RGB").crop((146, 34, 306, 194)).save(tmp_path / "face.png")
    main(["--faces", str(tmp_path)])
    rows = dict(re.findall(r"^\| (.+?) \| \d+ \| (\d+) \|", capsys.readouterr().out, re.M))
    assert len(rows) == 23 and int(rows["none"]) > int(rows["downscaled to 64 px, upscaled"]) > 50
