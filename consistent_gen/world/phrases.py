"""The words of the story world: every phrase a caption can use, by what it says.

The union of the words here (and of the templates in `captions.py`) is the closed vocabulary of the
small model. Tuples are synonyms: any of them names the same thing.
"""

from __future__ import annotations

KIND_NOUNS: dict[str, tuple[str, ...]] = {
    "girl": ("girl", "little girl", "young girl"),
    "boy": ("boy", "little boy", "young boy"),
    "woman": ("woman", "lady", "young woman"),
    "man": ("man", "gentleman", "young man"),
    "fox": ("fox", "little fox"),
    "cat": ("cat", "kitten", "little cat"),
    "bear": ("bear", "little bear"),
    "rabbit": ("rabbit", "bunny", "little rabbit"),
    "dog": ("dog", "puppy", "little dog"),
    "robot": ("robot", "little robot"),
}

COAT_HAIR: dict[str, tuple[str, ...]] = {
    "black": ("black", "dark"),
    "brown": ("brown", "chestnut"),
    "ginger": ("ginger", "orange"),
    "golden": ("golden", "blond"),
    "gray": ("gray", "silver"),
    "white": ("white",),
}
COAT_FUR: dict[str, tuple[str, ...]] = {
    "black": ("black",),
    "brown": ("brown",),
    "ginger": ("ginger", "orange"),
    "golden": ("golden",),
    "gray": ("gray", "silver"),
    "white": ("white",),
}

PATTERN_ADJECTIVES: dict[str, tuple[str, ...]] = {
    "plain": ("", "plain"),
    "stripes": ("striped",),
    "dots": ("dotted", "spotted"),
    "checks": ("checked", "checkered"),
}
TOP_NOUNS: dict[str, tuple[str, ...]] = {
    "shirt": ("shirt",),
    "sweater": ("sweater", "pullover"),
    "dress": ("dress",),
    "jacket": ("jacket", "coat"),
    "overalls": ("overalls",),
}
BOTTOM_NOUNS: dict[str, tuple[str, ...]] = {
    "trousers": ("trousers", "pants"),
    "shorts": ("shorts",),
    "skirt": ("skirt",),
}
SHOE_NOUNS: dict[str, tuple[str, ...]] = {
    "boots": ("boots",),
    "sneakers": ("sneakers", "shoes"),
    "sandals": ("sandals",),
}
PLURALS = ("overalls", "trousers", "pants", "shorts", "boots", "sneakers", "shoes", "sandals",
           "glasses")  # fmt: skip
ACCESSORY_NOUNS: dict[str, tuple[str, ...]] = {
    "hat": ("hat",),
    "glasses": ("glasses",),
    "scarf": ("scarf",),
    "crown": ("crown",),
    "backpack": ("backpack", "rucksack"),
    "bow": ("bow",),
}
CHEEK_PHRASES: dict[str, tuple[str, ...]] = {
    "freckles": ("freckles",),
    "blush": ("rosy cheeks",),
    "stripes": ("striped cheeks",),
}

EXPRESSION_ADJECTIVES: dict[str, tuple[str, ...]] = {
    "happy": ("happy", "smiling", "cheerful"),
    "sad": ("sad", "unhappy"),
    "angry": ("angry", "cross", "grumpy"),
    "surprised": ("surprised", "amazed", "astonished"),
    "sleepy": ("sleepy", "tired"),
    "calm": ("calm", "quiet"),
}

# Three forms of each action: after "a fox", after "a fox is", and as a verb of the third person.
ACTION_PHRASES: dict[str, tuple[tuple[str, str], ...]] = {
    "standing": (("standing", "stands"), ("standing still", "stands still")),
    "waving": (("waving", "waves"), ("waving hello", "says hello")),
    "walking": (("walking", "walks"), ("taking a walk", "takes a walk")),
    "running": (("running", "runs"), ("running fast", "runs fast")),
    "sitting": (("sitting", "sits"), ("sitting down", "sits down")),
    "jumping": (("jumping", "jumps"), ("jumping high", "jumps high")),
    "reading": (("reading", "reads"), ("reading a book", "reads a book")),
    "eating": (("eating", "eats"), ("having a snack", "has a snack")),
    "dancing": (("dancing", "dances"), ("dancing to music", "dances to music")),
    "balloon": (("holding a balloon", "holds a balloon"), ("with a balloon", "has a balloon")),
}

PLACE_PHRASES: dict[str, tuple[str, ...]] = {
    "meadow": ("in a meadow", "in the meadow", "on the grass", "in a field of flowers"),
    "forest": ("in a forest", "in the forest", "in the woods", "among the trees"),
    "beach": ("on a beach", "at the beach", "by the sea", "on the sand"),
    "city": ("in a city", "in the city", "on the street", "in the town"),
    "bedroom": ("in a bedroom", "in the bedroom", "beside the bed"),
    "kitchen": ("in a kitchen", "in the kitchen", "by the stove"),
    "library": ("in a library", "in the library", "among the bookshelves"),
    "mountain": ("on a mountain", "in the mountains", "on the mountain"),
    "desert": ("in a desert", "in the desert", "among the dunes"),
    "castle": ("at a castle", "at the castle", "in front of a castle"),
    "farm": ("on a farm", "at the farm", "in front of the barn"),
    "moon": ("on the moon", "in space", "among the craters"),
}

WEATHER_PHRASES: dict[str, tuple[str, ...]] = {
    "sunny": ("on a sunny day", "in the sunshine", "in the sun", ""),
    "cloudy": ("on a cloudy day", "under a cloudy sky"),
    "rainy": ("in the rain", "on a rainy day"),
    "snowy": ("in the snow", "on a snowy day", "in winter"),
    "sunset": ("at sunset", "in the evening"),
    "night": ("at night", "under the stars", "by night"),
}

# Before "of a fox"; the bare word serves in "..., watercolor style".
STYLE_PREFIXES: dict[str, tuple[str, ...]] = {
    "flat": ("a flat picture", "a flat illustration", "a flat drawing"),
    "outlined": ("an outlined picture", "an outlined cartoon", "an outlined drawing"),
    "pencil": ("a pencil drawing", "a pencil sketch", "a pencil picture"),
    "watercolor": ("a watercolor", "a watercolor painting", "a watercolor picture"),
    "pixel": ("pixel art", "a pixel picture", "a pixel drawing"),
    "neon": ("a neon picture", "neon art", "a neon drawing"),
    "papercut": ("a papercut", "a papercut picture", "papercut art"),
}
PLAIN_PREFIXES = ("a picture", "an illustration", "a drawing")

CAMERA_PHRASES: dict[str, tuple[str, ...]] = {
    "close": ("close up", "a portrait", "seen from nearby"),
    "medium": ("", "full view"),
    "far": ("from far away", "seen from afar"),
}
PROP_PHRASES: dict[str, tuple[str, ...]] = {
    "ball": ("with a ball", "next to a ball"),
    "flowers": ("next to flowers", "near some flowers"),
    "kite": ("with a kite", "under a kite"),
    "butterfly": ("with a butterfly", "near a butterfly"),
    "lantern": ("next to a lantern", "with a lantern"),
}
