"""A Gradio Space: a photograph in, the enhanced one out. `python space/app.py` runs it locally."""

import os

import gradio as gr

from hf_faceenh import FaceEnhancePipeline

pipe = FaceEnhancePipeline.from_pretrained(os.environ.get("MODEL_ID"))


def enhance(photo, upscale: int):
    if photo is None:
        raise gr.Error("Drop a photograph first.")
    try:
        result = pipe(photo, upscale=upscale).images[0]
    except (ValueError, OSError) as error:
        raise gr.Error(str(error)) from error
    return photo.resize(result.size), result


demo = gr.Interface(
    enhance,
    inputs=[gr.Image(type="pil", label="Photograph"), gr.Radio([1, 2, 4], value=2, label="Enlarge")],
    outputs=gr.ImageSlider(label="Before | after"),
    title="Face enhancement",
)

if __name__ == "__main__":
    demo.launch()
