"""What papers on personas ask a port to show, and the tests that hold it, by number of the system.

The page `docs/systems.md` lists them; a test holds that every one of these tests is there.
"""

from __future__ import annotations

from typing import NamedTuple


class Check(NamedTuple):
    """One check. file: of the test; told: what must come out; test: its name."""

    file: str
    told: str
    test: str


_MEASURES = "tests/persona/test_measures.py"
_JUDGES = "tests/persona/test_judges.py"
_BEHAVIOUR = "tests/persona/test_behaviour.py"
_SIMULATE = "tests/persona/test_simulate.py"
_POPULATION = "tests/persona/test_population.py"
_ATTRIBUTES = "tests/persona/test_attributes.py"
_TABLES = "tests/benchmarks/test_persona_tables.py"
_KERNEL = "tests/persona/test_kernel.py"
_INFORMATION = "tests/benchmarks/test_information_grpo.py"
_GRPO = "tests/training/test_grpo.py"

CHECKS: dict[int, tuple[Check, ...]] = {
    11: (  # PersonaFeedback
        Check(
            _JUDGES,
            "another profile lowers accuracy; length and no profile stand beside",
            "test_a_judge_that_reads_the_profile_loses_without_it",
        ),
        Check(
            _JUDGES,
            "files as published",
            "test_feedback_is_read_in_the_published_format",
        ),
    ),
    13: (  # LMEDR
        Check(
            _MEASURES,
            "the sum over statements; 200 planted contradictions are found",
            "test_c_score_is_the_sum_over_statements_and_knows_whose_profile_it_is",
        ),
        Check(
            _MEASURES,
            "another's profile: C-score falls and contradiction rises, outside both intervals",
            "test_somebody_elses_profile_is_contradicted_where_it_is_spoken_to",
        ),
        Check(
            _MEASURES,
            "generations as published",
            "test_released_generations_are_read_and_others_refused",
        ),
    ),
    14: (  # HACHIMI
        Check(
            _POPULATION,
            "600 slots: no rule broken, every cell exact, copies refused",
            "test_600_slots_by_a_proposer_that_slips_and_copies",
        ),
        Check(
            _POPULATION,
            "killed and resumed to equal bytes",
            "test_a_run_that_was_killed_goes_on_to_the_same_bytes",
        ),
        Check(
            _POPULATION,
            "cohort means by construct: signal passes, noise is weak",
            "test_constructs_that_agree_with_people_are_told_from_noise_and_never_averaged",
        ),
    ),
    15: (  # DeepPersona
        Check(
            _ATTRIBUTES,
            "shares of near, middle and far; the nearest are a top k; same seed, same choice",
            "test_the_shares_of_near_middle_and_far_are_those_of_the_preset",
        ),
        Check(
            _ATTRIBUTES,
            "anchors unchanged",
            "test_filling_sees_what_stands_and_leaves_anchors_alone",
        ),
        Check(
            _TABLES,
            "the four distances order rows",
            "test_four_distances_order_rows_as_they_should",
        ),
    ),
    16: (  # SPASM
        Check(
            _KERNEL,
            "projections partition the turns; byte-equal twice",
            "test_every_turn_is_the_assistants_in_exactly_one_view",
        ),
        Check(
            _SIMULATE,
            "echo rate within 0.05",
            "test_the_echo_rate_is_what_was_planted",
        ),
        Check(
            _SIMULATE,
            "projection keeps speakers apart where the whole script does not",
            "test_projection_keeps_speakers_apart_where_the_whole_script_does_not",
        ),
        Check(
            _SIMULATE,
            "dialogues as published",
            "test_released_dialogues_are_read_and_others_refused",
        ),
    ),
    17: (  # USP (Know You First)
        Check(
            _SIMULATE,
            "recall of facts 0.9; swapped users fit less",
            "test_profiles_are_extracted_from_the_users_turns_and_swapped_ones_fit_less",
        ),
        Check(
            _SIMULATE,
            "assistants are ranked as they are",
            "test_simulated_users_rank_assistants_as_they_are",
        ),
    ),
    18: (  # PsyPlay
        Check(
            _SIMULATE,
            "poles recovered, chance for shuffled cards, poles apart",
            "test_portrayed_poles_are_found_and_shuffled_cards_get_chance",
        ),
        Check(
            _SIMULATE,
            "a named trait is a leak and rejected",
            "test_a_card_that_is_named_is_rejected_and_a_judge_that_cannot_tell_fails",
        ),
    ),
    19: (  # APC
        Check(
            _MEASURES,
            "two, one and no fact by closed form",
            "test_apc_orders_two_one_and_no_fact_by_the_published_values",
        ),
        Check(
            _MEASURES,
            "a null answer has dAPC 0",
            "test_saying_nothing_is_worth_nothing",
        ),
    ),
    20: (  # PersoBench
        Check(
            _MEASURES,
            "rows equal a table by hand in both modes; malformed rows stay",
            "test_persobench_equals_a_table_made_by_hand_in_both_modes",
        ),
    ),
    21: (  # Eval4Sim
        Check(
            _MEASURES,
            "under-encoded and over-encoded corpora lose on all three",
            "test_the_human_like_corpus_wins_on_both_sides",
        ),
    ),
    22: (  # PersonaGym
        Check(
            _JUDGES,
            "published arithmetic",
            "test_the_published_arithmetic_of_rubric_scores",
        ),
        Check(
            _JUDGES,
            "an unreadable fifth gives parse rate 0.8 and a warning",
            "test_a_judge_who_fails_is_told_and_warned_of",
        ),
        Check(
            _JUDGES,
            "a judge sees every example whole",
            "test_a_judge_sees_every_example_whole",
        ),
    ),
    23: (  # Belief-behaviour consistency
        Check(
            _BEHAVIOUR,
            "three worlds are named; a permuted bank is about 0",
            "test_three_worlds_of_beliefs_are_named",
        ),
        Check(
            _BEHAVIOUR,
            "a forecast counts when it beats the last move; error lowers its score",
            "test_a_forecast_counts_when_it_beats_the_last_move",
        ),
    ),
    24: (  # Personality Illusion
        Check(
            _BEHAVIOUR,
            "a link is found where it is, and only there",
            "test_a_self_report_is_linked_with_what_is_done_only_where_it_is",
        ),
        Check(
            _BEHAVIOUR,
            "associations, honesty and flips; always the same group is no bias",
            "test_associations_honesty_and_flips_are_what_was_planted",
        ),
        Check(
            _TABLES,
            "values of the published tables",
            "test_the_published_values_come_out_again",
        ),
    ),
    25: (  # Too Nice to Tell the Truth
        Check(
            _BEHAVIOUR,
            "four worlds",
            "test_the_gate_names_four_worlds",
        ),
        Check(
            _BEHAVIOUR,
            "a ceiling is not measurable",
            "test_a_model_at_its_ceiling_is_not_measurable_and_stances_are_read",
        ),
    ),
    26: (  # PersonaEval
        Check(
            _JUDGES,
            "oracle, uniform and always-first; ECE below 0.03; below the bound is refused",
            "test_who_may_judge",
        ),
    ),
    27: (  # LLM as personalized judge
        Check(
            _JUDGES,
            "risk falls with coverage; the threshold holds on held-out items",
            "test_a_threshold_that_reaches_its_target_on_held_out_items",
        ),
        Check(
            _JUDGES,
            "worthless certainty gets no threshold",
            "test_worthless_certainty_gets_no_threshold",
        ),
    ),
    28: (  # Playing Pretend
        Check(
            _BEHAVIOUR,
            "planted gains and losses, 0 not flagged",
            "test_planted_effects_of_personas_on_accuracy_are_found_and_no_others",
        ),
        Check(
            _BEHAVIOUR,
            "trials that stick together raise no alarms",
            "test_trials_that_stick_together_raise_no_false_alarms",
        ),
    ),
    29: (  # Persona Paradox
        Check(
            _BEHAVIOUR,
            "main effect null, interaction found; calibration by context",
            "test_opposite_effects_are_seen_though_their_mean_is_none",
        ),
    ),
    30: (  # Bias Runs Deep
        Check(
            _BEHAVIOUR,
            "abstaining is told from failing; only that group is flagged",
            "test_a_group_that_declines_is_told_from_one_that_fails",
        ),
    ),
    31: (  # Personalized Stochastic Parrots
        Check(
            _BEHAVIOUR,
            "equal personas: 0 within the interval; a deviant one is named",
            "test_one_persona_unlike_the_others_is_named_and_equal_ones_are_not",
        ),
    ),
    42: (  # Information-consistent GRPO
        Check(
            _INFORMATION,
            "constant, leaking, poor and refusing answers lose",
            "test_who_is_informative_and_stable_wins",
        ),
        Check(
            _INFORMATION,
            "a planted policy becomes consistent; the control does not",
            "test_a_planted_policy_becomes_consistent_and_only_by_that_reward",
        ),
        Check(
            _GRPO,
            "advantages are standard in each group",
            "test_advantages_are_standard_in_each_group_and_know_no_other_group",
        ),
    ),
    43: (  # Consistency Amplifies
        Check(
            _BEHAVIOUR,
            "four quadrants; no verdict by consistency alone",
            "test_four_quadrants_and_no_verdict_by_consistency_alone",
        ),
    ),
    44: (  # PRODIGy
        Check(
            _JUDGES,
            "splits are named by whom they share; unseen means none",
            "test_splits_are_named_by_whom_they_share",
        ),
        Check(
            _JUDGES,
            "dialogues as published",
            "test_dialogues_of_the_corpus_that_the_ids_point_into",
        ),
    ),
    45: (  # Embracing Contradiction
        Check(
            _KERNEL,
            "dominated, trade-off, tolerances at their edges",
            "test_a_change_is_accepted_only_where_nothing_falls_by_more_than_its_tolerance",
        ),
        Check(
            _MEASURES,
            "what contradicts cannot be pruned",
            "test_what_contradicts_cannot_be_left_out",
        ),
    ),
}
