"""An idea becomes a story that this server's model can draw, as a request to edit and send."""

from __future__ import annotations

from consistent_gen.client.types import IdeaIn, IdeaOut, StoryIn
from consistent_gen.errors import InputError
from consistent_gen.story.ideas.writing import write_story
from consistent_gen.story.plan import Model
from consistent_gen.story.wording import vocabulary_of


def tell_idea(request: IdeaIn, model: Model) -> IdeaOut:
    """The story that templates tell of `request`.

    Raises:
        InputError: the idea is no sentence; names the field.
    """
    vocabulary = vocabulary_of(model)
    try:
        found = write_story(request.idea, vocabulary, frames=request.frames, seed=request.seed)
    except InputError as error:
        raise error.at("idea", None) from None
    story = StoryIn.model_validate(
        {
            "title": found.story.title,
            "characters": {
                name: {"description": character.description}
                for name, character in found.story.characters.items()
            },
            "frames": [
                {"prompt": frame.prompt, "caption": frame.caption} for frame in found.story.frames
            ],
            "seed": found.story.seed,
        }
    )
    return IdeaOut(story=story, notices=list(found.notices))
