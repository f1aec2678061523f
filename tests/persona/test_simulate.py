"""Dialogues end as they should, and what was planted in them is found again."""

from __future__ import annotations

import itertools
import json
import random
from collections.abc import Sequence
from pathlib import Path

import pytest

from consistent_gen.errors import ConsistentGenError, InputError
from consistent_gen.language.embedders import HashedNgrams
from consistent_gen.language.models import Message
from consistent_gen.persona import Persona, Scripted, Statement, Transcript, Utterance
from consistent_gen.persona.asking import chosen_letter, last_integer, refused, yes_or_no
from consistent_gen.persona.simulate import (
    Agent,
    ClosingPhrase,
    Detector,
    Dialogue,
    MaxTurns,
    Repetition,
    games,
    model_detector,
    psyplay,
    schema,
    spasm,
    spasm_set,
    usp,
)
from consistent_gen.persona.transcript import concatenated, project

ANN, BO = Persona("a", "Ann"), Persona("b", "Bo")


class Lines:
    """Says its lines in order, then fails."""

    sees, name = False, "lines"

    def __init__(self, *lines: str) -> None:
        self.left = list(lines)

    def chat(self, messages: Sequence[Message], *, max_tokens: int = 512) -> str:
        if not self.left:
            raise ConsistentGenError("the model is gone")
        return self.left.pop(0)


def talk(ann: Sequence[str], bo: Sequence[str], *rules: object) -> Transcript:
    agents = Agent(ANN, Lines(*ann)), Agent(BO, Lines(*bo))
    return Dialogue(agents, [MaxTurns(20), *rules]).run()  # type: ignore[list-item]


def test_a_dialogue_ends_by_its_rules() -> None:
    assert talk(["Hi."] * 10, ["Oh."] * 10).stop_reason == "20 turns"
    ended = talk(["So.", "Goodbye, Bo!"], ["Hm.", "Well, bye."], ClosingPhrase())
    assert ended.stop_reason == "everybody said goodbye" and len(ended.turns) == 4
    # One who says goodbye alone ends nothing, nor does a word that holds "bye".
    assert talk(["Bye.", "Bye."] * 5, ["Bygone."] * 10, ClosingPhrase()).stop_reason == "20 turns"
    assert (
        talk(["A.", "B.", "a"], ["C.", "D."], Repetition()).stop_reason == "Ann repeats themselves"
    )
    assert talk(["A."], [""]).stop_reason == "Bo said nothing"


def test_a_detector_reads_the_last_turns_after_a_while_and_counts_what_is_unclear() -> None:
    seen: list[int] = []

    def reads(turns: Sequence[Utterance]) -> bool | None:
        seen.append(len(turns))
        return None if len(seen) < 3 else True

    detector = Detector(reads, after=6, window=2)
    ended = talk(list("abcdef"), list("ghijkl"), detector)
    assert len(ended.turns) == 8 and seen == [2, 2, 2] and detector.unclear == 2
    assert model_detector(Scripted(silence="Yes, it has."))(ended.turns) is True
    assert model_detector(Scripted(silence="Who knows?"))(ended.turns) is None


def test_what_was_said_is_kept_when_a_model_fails_and_goes_on_from_there() -> None:
    kept = Transcript(("Ann", "Bo"))
    broken = Dialogue((Agent(ANN, Lines("One.")), Agent(BO, Lines("Two."))), [MaxTurns(4)])
    with pytest.raises(ConsistentGenError, match="gone"):
        for grown in broken.grow():
            kept = grown
    assert [turn.text for turn in kept.turns] == ["One.", "Two."] and not kept.stop_reason
    mended = Dialogue((Agent(ANN, Lines("Three.")), Agent(BO, Lines("Four."))), [MaxTurns(4)])
    assert [turn.text for turn in mended.run(kept).turns][2:] == ["Three.", "Four."]
    for agents, message in (((Agent(ANN, Lines()),), "two or more"), (broken.agents, "MaxTurns")):
        with pytest.raises(InputError, match=message):
            Dialogue(agents, [Repetition()])


def test_replies_are_read_as_they_were_meant() -> None:
    said = {
        "I had 10, so I send 7.": 7,
        "3.5": None,
        "4/5": 4,
        "6 out of 10.": 6,
        "1,000": None,
        "12": None,
        "between 2 and 4": 4,
        "-1": None,
    }
    assert {text: last_integer(text, 0, 10) for text in said} == said
    letters = {
        "B": "B", "(C) because": "C", "A is wrong. The answer is D.": "D", "I think so.": None,
        "The answer is F.": None, "Answer: A": "A", "It depends.": None, "A dog would know.": None,
    }  # fmt: skip
    assert {text: chosen_letter(text, 4) for text in letters} == letters
    assert (yes_or_no("No, yes"), yes_or_no("Yes!"), yes_or_no("Maybe")) == (False, True, None)
    assert refused("I\u2019m sorry, but no.") and not refused("I can do that.")


@pytest.mark.parametrize("p", [0.0, 0.3, 0.8])
def test_the_echo_rate_is_what_was_planted(p: float) -> None:
    people = spasm.scripted_personas(14)
    talks = spasm.scripted_dialogues(spasm.Talker(echo=p), people, seed=3, turns=60)
    plain, echoing = (spasm.echo_rate(role) for role in spasm.by_role(talks, people))
    assert abs(echoing.value - p) <= 0.05
    assert plain.value == 0.0  # who is echoed does not echo


def test_projection_keeps_speakers_apart_where_the_whole_script_does_not() -> None:
    people = spasm.scripted_personas(10)
    near: dict[str, tuple[float, float]] = {}
    for name, view in (("projected", project), ("concatenated", concatenated)):
        talks = spasm.scripted_dialogues(spasm.Imitator(), people, seed=1, turns=20, view=view)
        role = spasm.by_role(talks, people)[1]
        # Looked for among the personas of all, the partner's is what it has become.
        items = spasm.persona_retrieval(role, people, HashedNgrams()).items
        partners = [t.speakers[0] for t in talks]
        ids = {p.name: p.id for p in people}
        own = sum(item.value == 1.0 for item in items) / len(items)
        other = sum(
            item.why.endswith(f" {ids[p]}") for item, p in zip(items, partners, strict=True)
        )
        near[name] = own, other / len(items)
    assert near["projected"][0] > near["concatenated"][0] + 0.3
    assert near["projected"][1] < near["concatenated"][1] - 0.3


def test_a_short_or_strange_role_is_counted_as_failed() -> None:
    short = spasm.SpokenRole(Transcript(("Ann", "Bo"), (Utterance("Ann", "Hello there."),)), ANN)
    measured = spasm.drift_slope([short], HashedNgrams())
    assert measured.failed == 1 and measured.n == 0
    found = spasm.persona_retrieval([short, spasm.SpokenRole(short.transcript, BO)], [ANN, BO],
                                    HashedNgrams())  # fmt: skip
    assert (found.n, found.failed, found.null) == (1, 1, 0.5)


def test_released_dialogues_are_read_and_others_refused(tmp_path: Path) -> None:
    def line(persona: int, said: Sequence[str], **changes: object) -> str:
        turns = [
            {"speaker": ("client", "tested")[i % 2], "turn_index": i, "text": text}
            for i, text in enumerate(said)
        ]
        return json.dumps({
            "persona_id": persona, "conversation_id": 0, "persona_fields": {"age": 40 + persona},
            "persona_description": f"You keep bees in valley {persona}. You worry about rain.",
            "turns": turns, "termination_reason": "natural_termination",
        } | changes)  # fmt: skip

    file = tmp_path / "set.jsonl"
    talks = [["My bees in valley 0 hate rain.", "Do they?"], ["Bees, valley 1, rain.", "I see."]]
    file.write_text("\n".join([line(0, talks[0]), line(1, talks[1]), ""]))
    spoken = spasm_set.read_released(file)
    people = spasm_set.personas(spoken)
    assert [p.id for p in people] == ["spasm-0", "spasm-1"] and people[1].fields == {"age": 41}
    assert [s.text for s in people[0].statements] == [
        "You keep bees in valley 0.", "You worry about rain.",
    ]  # fmt: skip
    assert spoken[0].turns == (talks[0][0],)
    assert spoken[0].transcript.stop_reason == "natural_termination"
    found = spasm.persona_retrieval(spoken, people, HashedNgrams())
    assert (found.value, found.null) == (1.0, 0.5)
    assert len(spasm_set.read_released(file, rows=1)) == 1
    swapped = json.loads(line(2, ["Hi.", "Yes?"]))["turns"][::-1]
    for text, message in (
        ('{"persona_id": 0, "x": []}', "line 1: conversation_id, persona_fields, .* missing"),
        ("[]", "a list; expected a mapping"), ("{", "not JSON"), ("", "no dialogue"),
        (line(0, ["Hi."], turns=[{"speaker": "client"}]), "turns without text, turn_index"),
        (line(0, ["Hi.", "Yes?"], turns=swapped), "count turns from 0"),
        (line(0, ["Hi."], turns=[{"speaker": "me", "turn_index": 0, "text": "x"}]), "turns of me"),
        ("\n".join([line(0, ["Hi."]), line(0, ["Hi."], persona_description="Who?")]),
         "line 2: persona spasm-0 is another one"),
    ):  # fmt: skip
        file.write_text(text)
        with pytest.raises(InputError, match=message):
            spasm_set.read_released(file)


def test_implausible_people_are_refused_and_the_rest_become_personas() -> None:
    rng = random.Random(4)
    refused_ = 0
    for i in range(100):
        fields, refusals = schema.plausible(rng)
        refused_ += len(refusals)
        assert not any(rule(fields) for rule in schema.RULES)
        persona = schema.persona_of(fields, f"s{i}", f"S {i}")
        assert str(fields["age"]) in persona.summary and persona.fields == fields
    assert refused_ > 50
    with pytest.raises(InputError, match="no plausible persona"):
        schema.plausible(rng, [schema.model_rule(Scripted(silence="Hard to say."))])


def test_profiles_are_extracted_from_the_users_turns_and_swapped_ones_fit_less() -> None:
    users = [usp.scripted_user_facts(i) for i in range(12)]
    targets = [usp.second_person(said) for said in users]
    model = Scripted(usp.ProfileWriter(misses=0.05))
    read = [usp.extract_profile(said, model) for said in users]
    recall = usp.fact_recall(
        [(t.facts, p) for t, p in zip(targets, read, strict=True)], HashedNgrams()
    )
    assert recall.value >= 0.9
    cycle = [[usp.cycle_consistency(t, p, HashedNgrams()) for p in read] for t in targets]
    pairs = list(itertools.permutations(range(12), 2))
    assert sum(cycle[i][i] > cycle[i][j] for i, j in pairs) >= 0.95 * len(pairs)
    assert usp.reward(cycle=1.5, p_human=0.5, w=0.5) == pytest.approx(1.25)
    spoken = Transcript(("U",), tuple(Utterance("U", text) for text in users[0]))
    given = usp.rewards(spoken, "U", targets[0], Scripted(usp.ProfileWriter()),
                        lambda text: float("live" in text), HashedNgrams())  # fmt: skip
    assert given == pytest.approx([1.0, 2.0, 1.0, 1.0, 1.0])  # cycle 2, and one human turn
    broken = usp.fact_recall([(targets[0].facts, usp.UserProfile.read("No paragraphs."))],
                             HashedNgrams())  # fmt: skip
    assert broken.failed == 4 and broken.n == 0


def test_simulated_users_rank_assistants_as_they_are() -> None:
    users = [
        Agent(Persona(f"u{i}", f"User {i}"),
              Scripted(usp.Rater(), usp.ScriptedUser({f"User {i}": usp.scripted_user_facts(i)}),
                       seed=i))
        for i in range(6)
    ]  # fmt: skip
    skills = {f"a{k}": k / 4 for k in range(5)}
    assistants = {
        name: Agent(Persona(name, "Assistant"), Scripted(usp.Helper(skill), seed=2))
        for name, skill in skills.items()
    }
    ratings = usp.rank_assistants(users, assistants, turns=24)
    assert usp.rank_agreement(ratings, skills).value >= 0.9
    assert ratings["a0"].value == 1.0 and ratings["a4"].value == 5.0
    mute = Agent(ANN, Scripted(silence="Nice weather."))
    assert usp.rank_assistants([mute], assistants, turns=2)["a0"].failed == 1


def test_topics_drift_where_users_change_them() -> None:
    keeps = [f"My boat leaks at the {part}." for part in ("bow", "keel", "stern", "deck", "mast")]
    strays = ["My boat leaks.", "My boat is old.", "Boats rot.", "Paint rots.", "Art sells."]
    slopes = []
    for said in (keeps, strays):
        turns = tuple(t for text in said for t in (Utterance("A", "Go on."), Utterance("U", text)))
        talks = [Transcript(("A", "U"), turns)] * 2
        profile = usp.UserProfile(("You sail.",), ())
        slopes.append(usp.failure_modes(talks, "U", [profile] * 2, HashedNgrams())[3].value)
    assert slopes[1] > slopes[0] + 0.05


def test_portrayed_poles_are_found_and_shuffled_cards_get_chance() -> None:
    told = {
        m.name: m
        for m in psyplay.portrayal_success(
            psyplay.scripted_talks(5, 1.0), psyplay.lexical_trait_judge, tool="cues"
        )
    }
    for name in ("portrayal_success", "portrayal_positive", "portrayal_negative"):
        assert told[name].value >= 0.95 and abs(told[name].null - 0.5) < 0.12
    talks = psyplay.scripted_talks(5, 1.0)
    people = [persona for *_, persona in talks]
    dealt = [
        (topic, transcript, Persona("x", persona.name, traits=other.traits))
        for (topic, transcript, persona), other in zip(talks, people[1:] + people[:1], strict=True)
    ]
    swapped = psyplay.portrayal_success(dealt, psyplay.lexical_trait_judge, tool="cues")[0]
    assert swapped.low <= 0.5 <= swapped.high
    assert told["leaks"].value == 0.0 and told["undetermined"].value == 0.0


def test_a_card_that_is_named_is_rejected_and_a_judge_that_cannot_tell_fails() -> None:
    talks = psyplay.scripted_talks(6, 1.0, count=40, leaking=0.3)
    found = psyplay.portrayal_success(talks, psyplay.lexical_trait_judge, tool="cues")
    leaked = [t for t in talks if any(psyplay.leaks(x, t[2]) for x in t[1].of(t[2].name))]
    assert found[0].failed == 5 * len(leaked) > 0 and found[0].n + found[0].failed == 200
    assert found[4].value == len(leaked) / 40
    vague = psyplay.model_trait_judge(Scripted(silence="High or low, who knows."))
    told = psyplay.portrayal_success(talks, vague, tool="vague")
    assert told[0].value == 0.0 and told[3].value == 1.0


def test_the_card_tasks_optimum_is_that_of_trying_it() -> None:
    scenario = games.CardScenario(bad=3, gain=30, loss=250)
    rng = random.Random(0)
    deck = [True] * 3 + [False] * 29
    points = 0.0
    for _ in range(20_000):
        for bad in rng.sample(deck, 5):
            points += -250 if bad else 30
            if bad:
                break
    assert points / 20_000 == pytest.approx(scenario.expected(5), abs=2.5)
    assert games.CardScenario(0, 10, 250).optimum == 32
    assert scenario.expected(scenario.optimum) >= max(map(scenario.expected, range(33)))
    babbling = Scripted(games.CardPlayer({}, babbles=1.0))
    assert scenario.turn(babbling, None) is None


def test_moves_that_are_none_are_no_moves() -> None:
    game = games.TrustGame()
    eager, silent = Scripted(silence="I send 4."), Scripted(silence="All of it!")
    played = game.play((eager, ANN), (eager, BO), rounds=2)
    assert played == [games.Round(4, 4)] * 2 and game.payoffs(played[0]) == (10, 8)
    assert game.play((silent, ANN), (eager, BO)) == [games.Round(None, None)]
    half = game.play((eager, ANN), (silent, BO))
    assert half == [games.Round(4, None)] and game.payoffs(half[0]) is None
    assert game.send(Scripted(silence="11"), ANN) is None


def test_talkers_say_what_they_are() -> None:
    persona = Persona("k", "Kim", statements=(Statement("I sail."),))
    agents = Agent(persona, Scripted(spasm.Talker())), Agent(BO, Scripted(silence="Oh."))
    assert Dialogue(agents, [MaxTurns(3)]).run().of("Kim") == ("I sail.", "I sail.")
