"""Pictures as a browser shows them: small enough, and without alpha."""

import base64
import io

from PIL import Image

LARGEST = 25  # megapixels; a browser does not show more well


def preview(image: Image.Image, largest: float) -> Image.Image:
    """`image` on white where it is transparent, downscaled to `largest` megapixels if it has more."""
    scale = min(1.0, (largest * 1e6 / (image.width * image.height)) ** 0.5)
    if scale < 1:
        image = image.resize((round(image.width * scale), round(image.height * scale)), Image.Resampling.LANCZOS)
    if image.mode == "I;16":
        image = image.point(lambda level: level / 256).convert("L")
    if image.mode in ("LA", "RGBA"):
        canvas = Image.new("RGB", image.size, "white")
        canvas.paste(image.convert("RGB"), mask=image.getchannel("A"))
        return canvas
    return image.convert("RGB")


def data_url(image: Image.Image, largest: float = LARGEST, profile: bytes | None = None) -> str:
    """A JPEG of at most `largest` megapixels with its colour profile, as an address that holds all of it."""
    file = io.BytesIO()
    preview(image, largest).save(file, "JPEG", quality=90, icc_profile=profile)
    return "data:image/jpeg;base64," + base64.b64encode(file.getvalue()).decode()
