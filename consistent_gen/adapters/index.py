"""Identity adapters by name: one system, one file beside this one."""

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
