"""Identity from pictures: adapters that give a UNet tokens of a character.

    adapter = load_adapter("storymaker.safetensors", pipe.unet)
    with adapt(pipe, adapter) as drawing, share(pipe, "consistory") as story:
        drawing.show([mia, bruno], masks={0: left, 1: right})
        story.frame(...)

`references` says what is read of a picture, `projectors` and `fusing` make tokens of it, `policy`
brings them into attention, `scales` says how strongly, `losses` teach them where to look, `codec`
reads and writes published files. One file per system; `docs/adapters.md` is the user's page.
"""

from consistent_gen.adapters.index import SYSTEMS

__all__ = ["SYSTEMS"]
