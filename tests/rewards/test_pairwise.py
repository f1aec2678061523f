"""The generative judge: a real vision-language class at tiny size, and a real local endpoint."""

from __future__ import annotations

import json
import math
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
import torch

from consistent_gen.errors import CheckpointError, InputError
from consistent_gen.language.endpoints import Endpoint, EndpointError
from consistent_gen.rewards.base import ImageSet
from consistent_gen.rewards.pairwise import (
    QUESTIONS,
    EndpointJudge,
    LocalJudge,
    YesNoReward,
    answer,
    first_token_loss,
    yes_share,
)

QUESTION = QUESTIONS["theme"].format("a fox")


def pictures(count: int) -> tuple[np.ndarray, ...]:
    rng = np.random.default_rng(0)
    return tuple(rng.integers(0, 256, (40, 40, 3), dtype=np.uint8) for _ in range(count))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """LLaVA with a CLIP eye, random weights of a few thousand numbers, and its real processor."""
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import (
        CLIPImageProcessor,
        CLIPVisionConfig,
        LlamaConfig,
        LlavaConfig,
        LlavaForConditionalGeneration,
        LlavaProcessor,
        PreTrainedTokenizerFast,
    )

    place = tmp_path_factory.mktemp("judges") / "tiny-llava"
    words = ["<unk>", "<pad>", "<image>", "Yes", "No", "yes", "NO", "USER", "ASSISTANT", "pictures"]
    inner = Tokenizer(models.WordLevel({w: i for i, w in enumerate(words)}, unk_token="<unk>"))
    inner.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=inner, unk_token="<unk>", pad_token="<pad>",
        additional_special_tokens=["<image>"],
    )  # fmt: skip
    processor = LlavaProcessor(
        CLIPImageProcessor(size={"shortest_edge": 16}, crop_size={"height": 16, "width": 16}),
        tokenizer,
        patch_size=8,
        vision_feature_select_strategy="default",
        num_additional_image_tokens=1,
        chat_template="{% for m in messages %}USER {% for c in m['content'] %}"
        "{% if c['type'] == 'image' %} <image> {% else %}{{ c['text'] }}{% endif %}{% endfor %}"
        "{% endfor %} ASSISTANT ",
    )
    size = {"hidden_size": 16, "intermediate_size": 16, "num_attention_heads": 2}
    torch.manual_seed(0)
    model = LlavaForConditionalGeneration(
        LlavaConfig(
            vision_config=CLIPVisionConfig(
                **size, num_hidden_layers=2, image_size=16, patch_size=8
            ).to_dict(),
            text_config=LlamaConfig(
                **size, num_hidden_layers=1, num_key_value_heads=2, vocab_size=len(words)
            ).to_dict(),
            image_token_index=2,
            image_token_id=2,
            image_seq_length=4,
        )
    )
    model.save_pretrained(place)
    processor.save_pretrained(place)
    return place


def test_a_local_judge(folder: Path) -> None:
    judge = LocalJudge(folder)
    a, b = pictures(2)
    said = judge.first_token(a, b, QUESTION)
    assert said.keys() == {"Yes", "No", "yes", "NO"}
    assert sum(math.exp(x) for x in said.values()) < 1.0
    share = yes_share(said)
    assert share is not None and 0.0 < share < 1.0
    assert said != judge.first_token(b, a, QUESTION), "this class is not symmetric by itself"
    reward = YesNoReward(judge, [QUESTION])
    one, other = (reward([ImageSet(pictures=p)]).values[0] for p in ((a, b), (b, a)))
    assert one == other
    both = [yes_share(judge.first_token(*pair, QUESTION)) for pair in ((a, b), (b, a))]
    assert one == pytest.approx(sum(both) / 2)  # type: ignore[arg-type]
    assert reward.card.features == "tiny-llava (transformers)" and reward.symmetric


def test_a_judge_learns_to_answer_by_the_first_token_loss(folder: Path) -> None:
    """A real class with answers of three tokens: yes and a reason, or no and a reason."""
    judge = LocalJudge(folder)
    dark, light = (np.full((40, 40, 3), shade, np.uint8) for shade in (0, 255))
    model = judge.model.train()
    tokens = judge.processor.tokenizer.get_vocab()
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
    for _ in range(40):
        losses = []
        for pair, word in (((dark, dark), "Yes"), ((light, light), "No")):
            reply = torch.tensor([tokens[w] for w in (word, "pictures", "pictures")])
            inputs = judge.inputs(*pair, QUESTION)
            inputs["input_ids"] = torch.cat([inputs["input_ids"], reply[None, :-1]], 1)
            inputs["attention_mask"] = torch.ones_like(inputs["input_ids"])
            logits = model(**inputs).logits[0, -len(reply) :]
            losses.append(torch.nn.functional.cross_entropy(logits, reply, reduction="none"))
        loss = first_token_loss(torch.stack(losses), torch.ones(2, 3))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    model.eval()
    same, apart = (yes_share(judge.first_token(p, p, QUESTION)) for p in (dark, light))
    assert same is not None and apart is not None and same > 0.8 > 0.2 > apart


def test_folders_that_hold_no_judge(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="not a model folder"):
        LocalJudge(tmp_path / "nowhere")
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(CheckpointError, match="no vision-language model"):
        LocalJudge(tmp_path)


class Answers(BaseHTTPRequestHandler):
    """An endpoint that prefers yes when the first picture is lighter; asks are kept."""

    asked: ClassVar[list[dict[str, Any]]] = []
    mode = "good"

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        type(self).asked.append(body)
        urls = [p["image_url"]["url"] for p in body["messages"][0]["content"][:2]]
        logprob = -0.2 if len(urls[0]) >= len(urls[1]) else -1.2
        told = [
            {"token": " Yes", "logprob": logprob},
            {"token": "no", "logprob": -2.0},
            {"token": "Well", "logprob": -3.0},
        ]
        if self.mode == "unsure":
            told = [{"token": "Well", "logprob": -0.1}]
        reply: dict[str, Any] = {"choices": [{"logprobs": {"content": [{"top_logprobs": told}]}}]}
        if self.mode == "plain":
            reply = {"choices": [{"message": {"content": "Yes"}}]}
        data = json.dumps(reply).encode()
        self.send_response(500 if self.mode == "down" else 200)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@pytest.fixture
def endpoint() -> Iterator[Endpoint]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Answers)
    Answers.asked, Answers.mode = [], "good"
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield Endpoint(url=f"http://127.0.0.1:{server.server_port}/v1")
    server.shutdown()
    server.server_close()
    thread.join()


def test_an_endpoint_with_log_probabilities(endpoint: Endpoint) -> None:
    a, b, c = pictures(3)
    reward = YesNoReward(EndpointJudge(endpoint, "some-vlm"), [QUESTION])
    found = reward([ImageSet(pictures=(a, b, c))])
    assert found.valid == (True,) and 0.5 < found.values[0] < 1.0
    assert len(Answers.asked) == 6, "three pairs in both orders"
    asked = Answers.asked[0]
    assert asked["max_tokens"] == 1 and asked["logprobs"] is True and asked["temperature"] == 0.0
    assert asked["top_logprobs"] == 20 and asked["model"] == "some-vlm"
    assert asked["messages"][0]["content"][2]["text"] == QUESTION


@pytest.mark.parametrize(
    ("mode", "words"),
    [("down", "status 500"), ("plain", "must support logprobs"), ("unsure", "neither yes nor no")],
)
def test_a_failing_judge_gives_no_score_and_says_why(
    mode: str, words: str, endpoint: Endpoint
) -> None:
    Answers.mode = mode
    reward = YesNoReward(EndpointJudge(endpoint, "some-vlm"), [QUESTION])
    found = reward([ImageSet(pictures=pictures(2))])
    assert found.valid == (False,) and math.isnan(found.values[0])
    assert words in found.reasons[0]
    if mode != "unsure":
        with pytest.raises(EndpointError):
            EndpointJudge(endpoint, "some-vlm").first_token(*pictures(2), QUESTION)


def test_forms_of_an_answer() -> None:
    assert [answer(t) for t in (" Yes", "YES.", "\u2581no", "Maybe", "")] == [
        "yes", "yes", "no", None, None,
    ]  # fmt: skip
    assert answer(" Yes", canonical=False) is None and answer("Yes", canonical=False) == "yes"
    with pytest.raises(InputError, match="asked nothing"):
        YesNoReward(None, [])  # type: ignore[arg-type]
