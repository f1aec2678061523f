"""Networks that read pictures, by name."""

from __future__ import annotations

ENCODERS: dict[str, str] = {
    "reader": "consistent_gen.encoders.reader:Reader",
    "judge": "consistent_gen.encoders.judge:Judge",
    "subject": "consistent_gen.encoders.subject:SubjectEncoder",
}
# Backends that find faces and say whose they are; the first is the default.
FACE_ANALYZERS: dict[str, str] = {
    "storyworld": "consistent_gen.encoders.face_story:StoryFaces",
    "dlib": "consistent_gen.encoders.face_dlib:DlibFaces",
    "mesh": "consistent_gen.encoders.face_mesh:MeshFaces",
    "insightface": "consistent_gen.encoders.face_insightface:InsightFaces",
}
IMAGE_ENCODERS: dict[str, str] = {
    "clip": "consistent_gen.encoders.pretrained:ClipEncoder",
    "dino": "consistent_gen.encoders.pretrained:DinoEncoder",
}
