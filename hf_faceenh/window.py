"""Photographs on their way: as many at once as memory allows, so that their faces share batches."""

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace

import torch
import torch.nn.functional as F

from hf_faceenh.faces import EnhancedFace, Reason, Show, crop_both, filled_in, left_alone, wanted
from hf_faceenh.fusion import FAINTEST
from hf_faceenh.likeness import Likeness, judged
from hf_faceenh.pictures import LoadedImage
from hf_faceenh.pictures.alpha import continued
from hf_faceenh.strength import Strength, strength_of
from hf_faceenh.tones import Tone, as_grey, find_tone

LEVELS = 65535  # of a value in 16 bits
PIXELS = 16_000_000  # of the results of all photographs on their way; one alone may have more
DECODED = 64_000_000  # pixels of the pictures that wait, decoded, for their turn; the others are read again then


@dataclass(slots=True, eq=False)
class Photograph:
    """One picture on its way, and what has been made of it so far.

    Args:
        picture: as it was read; from `begin` on, in grey if it has one tone. `None` while it is put away.
        aligned: whether it is the aligned crop of one face.
        shape: the picture's height and width in px.
        tone: the one tone of a picture without colours, which is `picture` in grey until its results get the tone
            back; `None` for one in colour.
        pixels: `[3, H, W]` from `begin` on: as `seen` gives them, on the device that works on them.
        faces: a record for every face, which is filled in on the way.
        transforms: `[N, 2, 3]`, px of the picture → px of the crops.
        upscaled: `[3, uH, uW]`; `None` where the result is the face alone.
        enhanced: `[3, s, s]` uint16 of each face that is enhanced, in their order, s as in `reduced`; see `packed` and
            `enhanced_face`.
        masks: `[1, s, s]` of the same.
    """

    picture: LoadedImage | None
    aligned: bool = False
    shape: tuple[int, int] = field(init=False)
    tone: Tone | None = field(init=False)
    pixels: torch.Tensor | None = None
    faces: list[EnhancedFace] = field(default_factory=list)
    transforms: torch.Tensor | None = None
    upscaled: torch.Tensor | None = None
    enhanced: list[torch.Tensor] = field(default_factory=list)
    masks: list[torch.Tensor] = field(default_factory=list)
    _read: Callable[[], LoadedImage] | None = field(init=False, default=None)

    def __post_init__(self):
        self.shape = tuple(self.picture.pixels.shape[1:])
        self.tone = find_tone(self.picture.pixels, self.picture.alpha)

    def seen(self) -> torch.Tensor:
        """`[3, H, W]`: the picture's pixels as the networks see them, in grey if it has one tone, with colours
        continued under transparent ones. A copy for some pictures, so it is made when it is needed."""
        pixels = self.picture.pixels if self.tone is None else as_grey(self.picture.pixels)
        return continued(pixels, self.picture.alpha)

    def put_away(self, read: Callable[[], LoadedImage]) -> None:
        """Lets go of the picture until `begin`, which has `read` give it once more."""
        self.picture, self._read = None, read

    def begin(self, device: torch.device) -> None:
        """Puts `pixels` on the device that works on them.

        Raises:
            OSError: where a picture that was put away has another size now.
        """
        if self.picture is None:
            self.picture = self._read()
            if self.picture.pixels.shape[1:] != self.shape:
                raise OSError("A picture has changed while others were enhanced. Enhance it again.")
        seen = self.seen()
        if self.tone is not None:
            self.picture = replace(self.picture, pixels=seen)
        self.pixels = seen.to(device)

    @property
    def area(self) -> int:
        """Pixels of the picture."""
        return self.shape[0] * self.shape[1]

    @property
    def wanted(self) -> list[int]:
        """The indices of the faces that are enhanced."""
        return wanted(self.faces)

    @property
    def is_crop(self) -> bool:
        """Whether the result is the enhanced face, and nothing around it."""
        return self.aligned and bool(self.wanted)

    @property
    def is_done(self) -> bool:
        """Whether all faces are enhanced that are to be."""
        return len(self.enhanced) == len(self.wanted)

    def crop(self, index: int, size: int) -> torch.Tensor:
        """A face as the enhancer sees it, `[1, 3, size, size]`."""
        crop = crop_both(self.pixels, self.upscaled, self.transforms[index : index + 1], size)
        return crop if self.tone is None else as_grey(crop[0])[None].clone()  # the upscaled one may have colours

    def toned(self, result: torch.Tensor) -> torch.Tensor:
        """A result `[3, H, W]` with the picture's tone, if it has only one; in place."""
        return result if self.tone is None else self.tone.put_back_(result)

    def enhanced_face(self, place: int) -> torch.Tensor:
        """One of those in `enhanced`, `[3, s, s]` in [0, 1]."""
        return unpacked(self.enhanced[place])

    def show_left_alone(self, size: int, show: Show | None) -> None:
        """Fills in the records of the faces that are not enhanced."""
        if show is None:
            return
        for index in set(range(len(self.faces))) - set(self.wanted):
            self.faces[index] = filled_in(self.faces[index], show, crop=self.toned(self.crop(index, size)[0]))

    def decide_strength(self, index: int, strength: Strength) -> float:
        """The strength of a face, which its record has from now on."""
        self.faces[index] = replace(self.faces[index], strength=strength_of(self.faces[index], strength))
        return self.faces[index].strength

    def judge(self, index: int, likeness: Likeness, limit: float) -> float:
        """The strength of a face as its likeness allows it; from now on its record has both."""
        self.faces[index] = judged(self.faces[index], likeness, limit)
        return self.faces[index].strength

    def add(
        self,
        index: int,
        crop: torch.Tensor,
        enhanced: torch.Tensor,
        labels: torch.Tensor,
        mask: torch.Tensor,
        upscale: int,
        show: Show | None,
    ) -> None:
        """Keeps what the result needs of a face, which is nothing of one that is left alone after all, or of which
        `mask` takes nothing; and, with `show`, its record's pictures."""
        face = self.faces[index]
        if not self.aligned and mask.max() < FAINTEST * face.strength:
            face = left_alone(replace(face, held_back=None, identity_distance=None), Reason.NO_GAIN)
        if show is not None:
            face = filled_in(face, show, crop=self.toned(crop.clone()))
        if show is not None and face.reason is None:
            face = filled_in(face, show, enhanced=self.toned(enhanced.clone()), parsing=labels, mask=mask[0])
        self.faces[index] = face
        if face.reason is None:
            side = len(mask[0]) if self.aligned else face.size * upscale  # of the crop in the result
            self.enhanced.append(packed(reduced(enhanced, side)))
            self.masks.append(reduced(mask, side))


def reduced(picture: torch.Tensor, side: float) -> torch.Tensor:
    """`[C, S, S]` by as many halvings as leave at least 1.5 times the `side` px at which the result shows it, so that
    it stays as sharp. All faces of a crowd wait for the last of them."""
    while picture.shape[-1] % 2 == 0 and picture.shape[-1] >= 3 * side:
        picture = F.avg_pool2d(picture, 2)
    return picture


def packed(face: torch.Tensor) -> torch.Tensor:
    """A face in [0, 1] in 16 bits a value: half of float32's memory, and finer than most pictures that it ends in."""
    return (face * LEVELS).round_().to(torch.uint16)


def unpacked(face: torch.Tensor) -> torch.Tensor:
    return face.float().div_(LEVELS)


Face = tuple[Photograph, int]  # and the face's index in it


def walk(
    photographs: deque[Photograph],
    begin: Callable[[Photograph], None],
    enhance: Callable[[Sequence[Face]], None],
    batch_size: int,
    largest: int,
) -> Iterator[Photograph]:
    """Every photograph, in order, as soon as all its faces are enhanced.

    Faces wait until those of the following photographs have filled the batch. Only if the next photograph would bring
    more than `largest` pixels on their way, the faces that wait go in a smaller batch.

    Args:
        photographs: is emptied, so that none is in memory for longer than it is needed.
        begin: called with each photograph when its turn comes.
        enhance: called with each batch of faces; appends to `enhanced` of their photographs.
        batch_size: faces of a full batch.
        largest: pixels of the photographs that are on their way at once; one alone may have more.
    """
    waiting: deque[Photograph] = deque()
    faces: deque[Face] = deque()

    def enhance_while(fewest: int) -> Iterator[Photograph]:
        """Enhances while at least `fewest` faces wait; then yields the photographs that are done."""
        while len(faces) >= fewest:
            enhance([faces.popleft() for _ in range(min(batch_size, len(faces)))])
        while waiting and waiting[0].is_done:
            yield waiting.popleft()

    while photographs:
        if sum(one.area for one in waiting) + photographs[0].area > largest:
            yield from enhance_while(fewest=1)
        waiting.append(photographs.popleft())
        begin(waiting[-1])
        faces.extend((waiting[-1], index) for index in waiting[-1].wanted)
        yield from enhance_while(fewest=batch_size)
    yield from enhance_while(fewest=1)
