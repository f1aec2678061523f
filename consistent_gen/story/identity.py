"""Characters given by pictures, drawn through an identity adapter.

    adapter = story_adapter(backbone)          # None: the model has none
    mia = adapter.read("Mia", [picture])
    FrameRequest(prompt=..., identities=adapter.shown([mia]))

The adapter acts beside whatever method shares attention between the frames: that keeps a story's
frames alike, and the adapter keeps them like the pictures. What it is told of a character is what
the reader reads of it (`encoders.subject_features`).

An adapter lies in a folder beside the weights of the model that it was trained on: its tensors in
the layout of the system that it is like, and `config.json` with the arm's name and hashes of the
denoiser and of the reader. It is used with that denoiser alone.
"""

from __future__ import annotations

import hashlib
import threading
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

import numpy as np
import torch
from torch import Tensor

from consistent_gen.adapters.references import CharacterRef, Feature
from consistent_gen.adapters.scales import ScalePlan
from consistent_gen.adapters.story_world import DENOISER, FEATURES, READER
from consistent_gen.attention.patch import attach, detach
from consistent_gen.attention.rows import Call, Row
from consistent_gen.checkpoints import (
    file_sha256,
    folder_sha256,
    read_json,
    weights_folder,
    weights_root,
)
from consistent_gen.encoders.reader import Reader, kept_reader
from consistent_gen.encoders.subject_features import SubjectFeatures, subject_features
from consistent_gen.engine.coupling import Coupling, Identities
from consistent_gen.errors import CheckpointError
from consistent_gen.inputs import open_picture

if TYPE_CHECKING:
    from consistent_gen.adapters.adapter import Adapter
    from consistent_gen.models.backbone import Backbone
    from consistent_gen.story.cast import CastMember
    from consistent_gen.story.plan import StoryPlan
    from consistent_gen.story.types import PictureBox

ADAPTER, CONFIG = "adapter.safetensors", "config.json"
FOLDER = "adapter"  # among the shipped weights
CELLS = 64  # of a mask along a side
# What a process keeps in memory, of all stories together.
MOST_PICTURES, MOST_ADAPTERS = 256, 2


@dataclass(frozen=True, kw_only=True, eq=False)
class ReadReference:
    """What an adapter knows of a character.

    character: what was read, of the pictures that show somebody; None if none does. pictures:
    SHA-256 of the pixels of those. notes: what a user should know of the others.
    """

    name: str
    character: CharacterRef | None
    pictures: tuple[str, ...]
    notes: tuple[str, ...] = ()

    @property
    def used(self) -> bool:
        """Whether there is anything to tell the adapter."""
        return self.character is not None


class StoryAdapter(Coupling):
    """An adapter in one engine's model: attached while frames need it.

    Args:
        backbone: the model. adapter: built for it. reader: reads references.
        name: of the arm, for metadata. sha256: of the adapter's folder.
        scale: how strongly it acts, 1 as trained.
    """

    def __init__(
        self,
        backbone: Backbone,
        adapter: Adapter,
        reader: Reader,
        *,
        name: str,
        sha256: str,
        scale: float = 1.0,
    ) -> None:
        self.backbone, self.adapter, self.reader = backbone, adapter, reader
        self.name, self.sha256 = name, sha256
        self.plan = ScalePlan(image=scale, lora=scale)
        self._policy = adapter.policy()
        self._live: dict[str, Any] = {}

    @torch.inference_mode()
    def read(self, name: str, pictures: Sequence[np.ndarray]) -> ReadReference:
        """What the adapter is told of a character, of pictures of it, uint8 [h w 3].

        Of a picture that shows several, the largest figure is meant. A picture in which nobody is
        found is left out; `ReadReference.notes` says so.
        """
        found, used, notes = [], [], []
        for number, picture in enumerate(pictures, 1):
            seen = _seen(self.reader, picture)
            if seen.largest is None:
                notes.append(
                    f"picture {number} shows nobody that {self.name!r} can read; "
                    "only attention looks at it"
                )
                continue
            if seen.count > 1:
                notes.append(
                    f"picture {number} shows {seen.count} characters and the largest is taken; "
                    "cut the picture to the one that is meant"
                )
            found.append(seen.largest)
            used.append(seen.sha256)
        if not found:
            return ReadReference(name=name, character=None, pictures=(), notes=tuple(notes))
        parts = {
            part: torch.cat([getattr(one, part) for one in found])
            for part in ("identity", "face", "crop")
        }
        parts["picture"] = parts["crop"]
        features = {part: Feature(value=v, encoder=READER) for part, v in parts.items()}
        return ReadReference(
            name=name, character=CharacterRef(name=name, features=features),
            pictures=tuple(used), notes=tuple(notes),
        )  # fmt: skip

    @torch.inference_mode()
    def shown(
        self,
        people: Sequence[ReadReference],
        boxes: Mapping[str, PictureBox] | None = None,
        *,
        moved: float = 0.0,
    ) -> Identities | None:
        """What a frame's request is given to show these characters, in the order of the prompt;
        None if nothing is known of any.

        boxes: by name, where some of them stand; their tokens are read there and nowhere else.
        moved: of the request: what is moved to its box is drawn before where it comes from.
        """
        people = [one for one in people if one.used]
        known = [one.character for one in people if one.character is not None]
        if not known:
            return None
        boxes = boxes or {}
        masks = {
            i: _region(boxes[one.name], moved) for i, one in enumerate(known) if one.name in boxes
        }
        tokens = self.adapter.identities(known, plan=self.plan, masks=masks)
        record = {
            "adapter": self.name,
            "sha256": self.sha256,
            "scale": self.plan.image,
            "characters": {one.name: list(one.pictures) for one in people},
            **({"boxes": {n: list(box) for n, box in boxes.items()}} if masks else {}),
        }
        return Identities(coupling=self, tokens=tokens, record=record)

    # See `Coupling`.

    def rows_in(self, call: Call) -> tuple[Row, ...]:
        """The rows of frames that show somebody through this adapter."""
        return tuple(
            row
            for row in call.rows
            if (shown := row.request.identities) is not None and shown.coupling is self
        )

    def begin_call(self, call: Call) -> None:
        """Show the model who is in these rows."""
        if not self._live:
            attach(self.backbone.denoiser, self._policy)
        rows = self.rows_in(call)
        for row in rows:
            if row.frame not in self._live:
                self._live[row.frame] = row.request.identities.tokens
                self._policy.show(row.frame, self._live[row.frame])
        self._policy.begin(Call(call.size, call.latent, rows))

    def end_call(self) -> None:
        """Nothing is shown until the next call."""
        self._policy.end()

    def release(self, frame: str) -> None:
        """Forget a frame; after the last one the model is what it was."""
        if self._live.pop(frame, None) is None:
            return
        self._policy.show(frame, None)
        if not self._live:
            detach(self.backbone.denoiser, self._policy)


@dataclass(frozen=True, kw_only=True)
class _SeenPicture:
    """What a reader finds in a picture: how many, and the features of the largest of them."""

    sha256: str
    count: int
    largest: SubjectFeatures | None


# Of each reader the last pictures, by the hash of their pixels: a story's frames are told of the
# same ones again and again.
_pictures: WeakKeyDictionary[Reader, OrderedDict[str, _SeenPicture]] = WeakKeyDictionary()
_adapters: OrderedDict[tuple[str, str, str], Adapter] = OrderedDict()
_keeping = threading.Lock()


def _seen(reader: Reader, picture: np.ndarray) -> _SeenPicture:
    """A picture, uint8 [h w 3], as it was read before or is read now."""
    sha256 = hashlib.sha256(repr(picture.shape).encode() + picture.tobytes()).hexdigest()
    with _keeping:
        kept = _pictures.setdefault(reader, OrderedDict())
        if sha256 in kept:
            kept.move_to_end(sha256)
            return kept[sha256]
    reading, largest = reader(torch.from_numpy(np.array(picture)).permute(2, 0, 1)[None]), None
    count = int(reading.count()[0])
    if count:
        sizes = reading.masks.softmax(1)[0, 1 : count + 1].sum((1, 2))
        first = torch.zeros(1, dtype=torch.long)
        largest = subject_features(reading, reader.schema, first, sizes.argmax()[None])
    found = _SeenPicture(
        sha256=hashlib.sha256(picture.tobytes()).hexdigest(), count=count, largest=largest
    )
    with _keeping:
        kept[sha256] = found
        while len(kept) > MOST_PICTURES:
            kept.popitem(last=False)
    return found


def _kept_adapter(place: Path, sha256: str, arm: str, backbone: Backbone) -> Adapter:
    """The adapter in a folder with that hash, read once for a model; the last ones are kept."""
    from consistent_gen.adapters.codec import load_adapter

    key = sha256, backbone.sha256, str(backbone.device)
    with _keeping:
        if key not in _adapters:
            loaded = load_adapter(place / ADAPTER, backbone.denoiser, **FEATURES.switches(arm))
            _adapters[key] = loaded.to(backbone.device, torch.float32)
        _adapters.move_to_end(key)
        while len(_adapters) > MOST_ADAPTERS:
            _adapters.popitem(last=False)
        return _adapters[key]


def _region(box: PictureBox, moved: float) -> Tensor:
    """A box, with where it is before it is moved, as a mask [h w]."""
    mask = torch.zeros(CELLS, CELLS)
    x0, y0, x1, y1 = (round(share * CELLS) for share in box)
    mask[y0 : max(y1, y0 + 1), x0 : max(x1, x0 + 1)] = 1.0
    return mask.maximum(torch.roll(mask, -round(moved * CELLS), 1))


class References:
    """What an adapter makes of a story's characters who have reference pictures.

    Args:
        plan: the story. backbone: the model. attention: whether the method looks at the pictures.
    """

    def __init__(self, plan: StoryPlan, backbone: Backbone, *, attention: bool) -> None:
        self._backbone, self._likeness, self._attention = (
            backbone, plan.settings.likeness, attention,
        )  # fmt: skip
        members = {m.name: m for frame in plan.frames for m in frame.members if m.references}
        self._given = {name: member.references for name, member in members.items()}

    @cached_property
    def _adapter(self) -> StoryAdapter | None:
        wanted = self._likeness > 0.0 and self._given
        return story_adapter(self._backbone, scale=self._likeness) if wanted else None

    @cached_property
    def _read(self) -> dict[str, ReadReference]:
        if self._adapter is None:
            return {}
        return {
            name: self._adapter.read(
                name, [np.asarray(open_picture(one), dtype=np.uint8) for one in given]
            )
            for name, given in self._given.items()
        }

    def shown(
        self,
        members: Sequence[CastMember],
        boxes: Mapping[str, PictureBox] | None = None,
        *,
        moved: float = 0.0,
    ) -> Identities | None:
        """For the request of a frame that shows these, in the order of its prompt; None if the
        adapter knows nobody of them. boxes, moved: see `StoryAdapter.shown`.
        """
        people = [self._read[m.name] for m in members if m.name in self._read]
        if self._adapter is None or not people:
            return None
        return self._adapter.shown(people, boxes, moved=moved)

    def report(self) -> dict[str, dict[str, Any]]:
        """By character with pictures: how many, what looks at them, and what should be known."""
        found: dict[str, dict[str, Any]] = {}
        for name, given in self._given.items():
            by = ["attention"] if self._attention else []
            read = self._read.get(name)
            by += ["adapter"] if read is not None and read.used else []
            found[name] = {"pictures": len(given), "used_by": by}
            if read is not None and read.notes:
                found[name]["notes"] = list(read.notes)
        return found


def has_adapter(backbone: Backbone) -> bool:
    """Whether the shipped adapter is of this model."""
    place = weights_root() / FOLDER
    return (place / CONFIG).is_file() and _is_of(read_json(place / CONFIG), backbone)


def _is_of(config: Mapping[str, Any], backbone: Backbone) -> bool:
    denoiser = backbone.path / DENOISER
    if not denoiser.is_file():
        return False
    at = denoiser.stat()
    return _sha256(denoiser, at.st_mtime_ns, at.st_size) == config.get("denoiser")


@lru_cache(maxsize=8)
def _sha256(path: Path, mtime_ns: int, size: int) -> str:
    """The hash of a file that was changed last at that time."""
    return file_sha256(path)


def story_adapter(
    backbone: Backbone, folder: str | Path | None = None, *, scale: float = 1.0
) -> StoryAdapter | None:
    """The adapter in a folder, by default the shipped one; None if it is of another model or there
    is none.

    Raises:
        CheckpointError: it is damaged, a folder that was named is missing or of another model, or
            it was trained with another reader than the one that is there.
    """
    place = Path(folder) if folder is not None else weights_root() / FOLDER
    if folder is None and not (place / CONFIG).is_file():
        return None
    config = read_json(place / CONFIG)
    if not _is_of(config, backbone):
        if folder is None:
            return None
        raise CheckpointError(
            f"the adapter in {place} was trained on another denoiser than that of "
            f"{backbone.name!r}; take that model, or train it with consistent-gen train adapter"
        )
    reader = weights_folder("reader")
    if folder_sha256(reader) != config.get("reader"):
        raise CheckpointError(
            f"the adapter in {place} learnt from another reader than the one in {reader}; "
            "train it again with consistent-gen train adapter"
        )
    arm = str(config.get("arm"))
    sha256 = folder_sha256(place)
    adapter = _kept_adapter(place, sha256, arm, backbone)
    return StoryAdapter(
        backbone, adapter, kept_reader(reader), name=arm, sha256=sha256, scale=scale
    )
