"""What a visitor wants, and the two ways in which a wish ends early: refused, or stopped."""

import html
from dataclasses import dataclass

import gradio as gr


class Refused(gr.Error):
    """One line in plain words, shown to the visitor; nothing is printed."""

    def __init__(self, message: str):
        self.line = message
        super().__init__(html.escape(message, quote=False), title="Sorry", print_exception=False)

    def __reduce__(self):  # for ZeroGPU, where it comes from another process
        return Refused, (self.line,)


class Stopped(gr.Error):
    """The visitor has pressed Stop, or left."""

    def __init__(self):
        super().__init__("Stopped.", title="Sorry", print_exception=False)

    def __reduce__(self):
        return Stopped, ()


@dataclass(frozen=True, slots=True)
class Wishes:
    """What the visitor wants.

    Args:
        enlarge: 1, 2 or 4.
        strength: of the enhanced faces, in [0, 1].
        background: whether what is not face is improved too.
        aligned: whether the picture is one face, already cropped.
        faces: the numbers of the faces to enhance, from 0; `None` for all.
        anyway: whether faces that are sharp enough are enhanced too.
        fidelity: how much an enhancer with such a dial keeps to the old face, in [0, 1]; `None` leaves it to it.
    """

    enlarge: int = 2
    strength: float = 1.0
    background: bool = True
    aligned: bool = False
    faces: tuple[int, ...] | None = None
    anyway: bool = False
    fidelity: float | None = None

    def __post_init__(self):
        if self.enlarge not in (1, 2, 4):
            raise Refused(f"Pictures can be enlarged 1, 2 or 4 times, not {self.enlarge} times.")
        if not isinstance(self.strength, (int, float)) or not 0 <= self.strength <= 1:
            raise Refused(f"The strength lies between 0 and 1; {self.strength} does not.")
        if self.fidelity is not None and not (isinstance(self.fidelity, (int, float)) and 0 <= self.fidelity <= 1):
            raise Refused(f"The fidelity lies between 0 and 1; {self.fidelity} does not.")
        if not all(isinstance(face, int) for face in self.faces or ()):
            raise Refused("Faces are named by their numbers: 0, 1, 2 and so on.")
