"""The published weights that are known by name: where they are from, what they may be used for, how to tell them.

A hash is taken from public pages, where at least two that do not depend on each other agree; without such a one a file
is not downloaded, but can be given.
"""

from dataclasses import dataclass

GFPGAN = "https://github.com/TencentARC/GFPGAN/releases/download"
REAL_ESRGAN = "https://github.com/xinntao/Real-ESRGAN/releases/download"
CODEFORMER = "https://github.com/sczhou/CodeFormer/releases/download"
RESTOREFORMER = "https://github.com/wzhouxiff/RestoreFormerPlusPlus/releases/download"
GPEN = "https://github.com/yangxy/GPEN"


@dataclass(frozen=True, slots=True)
class Source:
    """A published file.

    Args:
        url: of the file; of the page that tells where it is, if there is no `sha256`.
        sha256: of the file; `None` where no two public pages agree on it.
    """

    url: str
    sha256: str | None = None


@dataclass(frozen=True, slots=True)
class Published:
    """Weights that are known by name.

    Args:
        name: what users call them. It has no slash: it is nobody's repository on the Hub.
        family: whose network it is.
        role: the component of a pipeline that they are: "enhancer" or "super_resolver".
        size: side of the enhancer's faces in px; or the super-resolver's factor, "×4".
        megabytes: to be downloaded.
        license: in a word or two.
        source: the file.
        weak: a second file, of a super-resolver that removes less noise; see `convert`.
        commercial: whether the licence allows commercial use. If it does not, it has to be accepted first.
    """

    name: str
    family: str
    role: str
    size: str
    megabytes: int
    license: str
    source: Source
    weak: Source | None = None
    commercial: bool = True

    @property
    def sources(self) -> tuple[Source, ...]:
        return tuple(filter(None, (self.source, self.weak)))

    @property
    def page(self) -> str:
        """Of the project, with its licence."""
        return "/".join(self.source.url.split("/")[:5])

    @property
    def is_downloadable(self) -> bool:
        return all(source.sha256 for source in self.sources)


def _gfpgan(version: str, url: str, sha256: str) -> Published:
    source = Source(f"{GFPGAN}/{url}", sha256)
    return Published(f"gfpgan-{version}", "GFPGAN", "enhancer", "512 px", 349, "Apache-2.0", source)


def _restoreformer(name: str, file: str, megabytes: int) -> Published:
    source = Source(f"{RESTOREFORMER}/v1.0.0/{file}")
    return Published(name, "RestoreFormer", "enhancer", "512 px", megabytes, "Apache-2.0", source)


def _gpen(side: int, megabytes: int) -> Published:
    terms = "non-commercial (GPEN)"
    return Published(
        f"gpen-{side}", "GPEN", "enhancer", f"{side} px", megabytes, terms, Source(GPEN), commercial=False
    )


def _real_esrgan(
    file: str, release: str, factor: int, megabytes: int, sha256: str, weak: Source | None = None
) -> Published:
    source = Source(f"{REAL_ESRGAN}/{release}/{file}.pth", sha256)
    name = file.lower().replace("_", "-")
    return Published(name, "Real-ESRGAN", "super_resolver", f"×{factor}", megabytes, "BSD-3-Clause", source, weak)


WEAK = Source(
    f"{REAL_ESRGAN}/v0.2.5.0/realesr-general-wdn-x4v3.pth",
    "1641f8c4464b9f097c9fdda5589273713f67cf59f3d909e0bd688f0cee269dca",
)
PUBLISHED = (
    _gfpgan(
        "1.2",
        "v0.2.0/GFPGANCleanv1-NoCE-C2.pth",
        "29e25ee90c170f4231163f4c83df6b59c968b73f3ce00cb884015ae005db083c",
    ),
    _gfpgan("1.3", "v1.3.0/GFPGANv1.3.pth", "c953a88f2727c85c3d9ae72e2bd4846bbaf59fe6972ad94130e23e7017524a70"),
    _gfpgan("1.4", "v1.3.0/GFPGANv1.4.pth", "e2cd4703ab14f4d01fd1383a8a8b266f9a5833dacee8e6a79d3bf21a1b6be5ad"),
    Published(
        "codeformer",
        "CodeFormer",
        "enhancer",
        "512 px",
        377,
        "non-commercial (S-Lab 1.0)",
        Source(
            f"{CODEFORMER}/v0.1.0/codeformer.pth",
            "1009e537e0c2a07d4cabce6355f53cb66767cd4b4297ec7a4a64ca4b8a5684b7",
        ),
        commercial=False,
    ),
    _restoreformer("restoreformer", "RestoreFormer.ckpt", 291),
    _restoreformer("restoreformer++", "RestoreFormer++.ckpt", 294),
    _gpen(256, 76),
    _gpen(512, 284),
    _gpen(1024, 285),
    _real_esrgan(
        "RealESRGAN_x4plus", "v0.1.0", 4, 67, "4fa0d38905f75ac06eb49a7951b426670021be3018265fd191d2125df9d682f1"
    ),
    _real_esrgan(
        "RealESRGAN_x2plus", "v0.2.1", 2, 67, "49fafd45f8fd7aa8d31ab2a22d14d91b536c34494a5cfe31eb5d89c2fa266abb"
    ),
    _real_esrgan(
        "RealESRGAN_x4plus_anime_6B",
        "v0.2.2.4",
        4,
        18,
        "f872d837d3c90ed2e05227bed711af5671a6fd1c9f7d7e91c911a61f155e99da",
    ),
    _real_esrgan(
        "realesr-general-x4v3",
        "v0.2.5.0",
        4,
        10,
        "8dc7edb9ac80ccdc30c3a5dca6616509367f05fbc184ad95b731f05bece96292",
        WEAK,
    ),
    _real_esrgan(
        "realesr-animevideov3",
        "v0.2.5.0",
        4,
        3,
        "b8a8376811077954d82ca3fcf476f1ac3da3e8a68a4f4d71363008000a18b75d",
    ),
)
BY_NAME = {published.name: published for published in PUBLISHED}
