"""Scores of pictures by name; `rewards.cards` says what each is worth."""

from __future__ import annotations

REWARDS: dict[str, str] = {
    "alignment": "consistent_gen.rewards.story_world:ReaderAlignment",
    "background_diversity": "consistent_gen.rewards.story_world:BackgroundDiversity",
    "character_count": "consistent_gen.rewards.story_world:CharacterCount",
    "color_histogram": "consistent_gen.rewards.baselines:ColorHistogram",
    "different_backgrounds": "consistent_gen.rewards.story_world:DifferentBackgrounds",
    "different_pictures": "consistent_gen.rewards.story_world:DifferentPictures",
    "face_likeness": "consistent_gen.rewards.faces:FaceLikeness",
    "face_likeness_intended": "consistent_gen.rewards.faces:FaceLikenessIntended",
    "faces_found": "consistent_gen.rewards.faces:FacesFound",
    "figure_colors": "consistent_gen.rewards.story_world:FigureColors",
    "looks": "consistent_gen.rewards.looks:Looks",
    "model_consistency": "consistent_gen.rewards.baselines:folder_consistency",
    "nothing_unasked": "consistent_gen.rewards.story_world:NothingUnasked",
    "pair_judge": "consistent_gen.rewards.pairwise:YesNoReward",
    "pair_network": "consistent_gen.rewards.pair_network:PairNetworkReward",
    "photo_consistency": "consistent_gen.rewards.baselines:photo_consistency",
    "photo_style": "consistent_gen.rewards.baselines:PhotoStyle",
    "pixel_l2": "consistent_gen.rewards.baselines:PixelDistance",
    "prompt_matching": "consistent_gen.rewards.story_world:PromptMatching",
    "reader_consistency": "consistent_gen.rewards.story_world:ReaderConsistency",
    "reader_cosine": "consistent_gen.rewards.baselines:reader_cosine",
}
