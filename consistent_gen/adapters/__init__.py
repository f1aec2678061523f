"""Identity from pictures: adapters that give a UNet tokens of a character.

    adapter = load_adapter("storymaker.safetensors", pipe.unet)
    with adapt(pipe, adapter) as drawing, share(pipe, "consistory") as story:
        drawing.show([mia, bruno], masks={0: left, 1: right})
        story.frame(...)

`references` says what is read of a picture, `projectors` and `fusing` make tokens of it, `policy`
brings them into attention, `scales` says how strongly, `losses` teach them where to look, `codec`
reads and writes published files. One file per system; `docs/adapters.md` is the user's page.
"""

from __future__ import annotations

# In the order in which files are recognised: the first whose signature fits is meant.
SYSTEMS: dict[str, str] = {
    "storymaker": "consistent_gen.adapters.storymaker:StoryMaker",
    "consistent_id": "consistent_gen.adapters.consistent_id:ConsistentID",
    "pulid": "consistent_gen.adapters.pulid:PuLID",
    "faceid_plus": "consistent_gen.adapters.faceid:FaceIDPlus",
    "instantid": "consistent_gen.adapters.instantid:InstantID",
    "ip_adapter_plus": "consistent_gen.adapters.ip_adapter:IPAdapterPlus",
    "ip_adapter_full_face": "consistent_gen.adapters.ip_adapter:IPAdapterFullFace",
    "faceid": "consistent_gen.adapters.faceid:FaceID",
    "faceid_portrait": "consistent_gen.adapters.faceid:FaceIDPortrait",
    "ip_adapter": "consistent_gen.adapters.ip_adapter:IPAdapter",
    "reference_tokens": "consistent_gen.adapters.reference_tokens:ReferenceTokens",
}
