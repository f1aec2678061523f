"""Stories in the formats of other programs and benchmarks, as story files.

`import_story` tells a format by its content. What has no place in a story file is told in `notes`.
"""

from __future__ import annotations

from consistent_gen.story.foreign.formats import Imported
from consistent_gen.story.foreign.intake import FORMATS, import_story

__all__ = ["FORMATS", "Imported", "import_story"]
