"""Personas by the thousand: quotas met exactly, rules kept, no two nearly the same."""

from consistent_gen.persona.population.near_duplicates import SimHash, SimHashGate
from consistent_gen.persona.population.proposing import Proposer, ScriptedProposer
from consistent_gen.persona.population.quotas import Quotas, Slot, allocate, schedule
from consistent_gen.persona.population.revising import Failure, ProposeValidateRevise, persona_from
from consistent_gen.persona.population.role_cards import leaks, role_card
from consistent_gen.persona.population.sampling import ProfileSampler
from consistent_gen.persona.population.spec import Spec, read_spec
from consistent_gen.persona.population.taxonomy import Taxonomy, deepen, stratified_attributes
from consistent_gen.persona.population.writing import PopulationFolder, make_population

__all__ = [
    "Failure", "PopulationFolder", "ProfileSampler", "ProposeValidateRevise", "Proposer", "Quotas",
    "ScriptedProposer", "SimHash", "SimHashGate", "Slot", "Spec", "Taxonomy", "allocate", "deepen",
    "leaks", "make_population", "persona_from", "read_spec", "role_card", "schedule",
    "stratified_attributes",
]  # fmt: skip
