import json

import pytest
from tokenizers import Tokenizer, models, pre_tokenizers, processors

from tests.unit.workloads.traces.files import conversation
from workloads.spec import load_workload
from workloads.traces import WorkloadFileError
from workloads.traces.tokens import ApproximateCounter, TokenizerCounter


@pytest.fixture
def tokenizer(tmp_path):
    """A tokenizer of whole words that puts a first token before a text, truncated to three tokens as files may say."""
    words = Tokenizer(models.WordLevel({"<s>": 0, "<unk>": 1, "a": 2, "b": 3}, unk_token="<unk>"))  # noqa: S106
    words.pre_tokenizer = pre_tokenizers.Whitespace()
    words.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 0)])
    words.enable_truncation(3)
    words.save(str(tmp_path / "tokenizer.json"))
    return tmp_path


def test_a_tokenizer_counts_a_prompt_with_its_first_token_and_an_answer_without(tokenizer):
    counter = TokenizerCounter(tokenizer)
    assert counter.count(["a b a b a", "c", ""], prompt=True).tolist() == [6, 2, 0]
    assert counter.count(["a b a b a", "c", ""], prompt=False).tolist() == [5, 1, 0]
    assert counter.count([], prompt=True).tolist() == []
    assert str(tokenizer) in counter.how


def test_half_a_surrogate_pair_is_counted_as_one_unknown_character(tokenizer):
    """JSON may hold one, where a text was cut in the middle of an emoji; UTF-8 cannot."""
    texts = ["a \ud83d b", "a ? b"]
    assert TokenizerCounter(tokenizer).count(texts, prompt=False).tolist() == [3, 3]
    trace = tokenizer / "c.json"
    trace.write_text('[{"conversations": [{"from": "human", "value": "a"}, {"from": "gpt", "value": "b \\ud83d"}]}]')
    lengths = load_workload(f"sharegpt:{trace}@{tokenizer}").lengths()
    assert lengths.output_tok.tolist() == [2]


def test_without_a_tokenizer_four_bytes_are_a_token():
    assert ApproximateCounter().count(["a" * 400, "é" * 4, "x"], prompt=True).tolist() == [100, 2, 1]


def test_the_tokenizer_of_a_workload_stands_behind_an_at_sign(tokenizer):
    conversations, prompts = tokenizer / "c.json", tokenizer / "p.jsonl"
    conversations.write_text(json.dumps([conversation("a b b", "b a")]))
    prompts.write_text('{"prompt": "a b b a", "output_tokens": 9}')
    for text, expected in ((f"sharegpt:{conversations}", (4, 2)), (f"vllm:{prompts}", (5, 9))):
        workload = load_workload(f"{text}@{tokenizer / 'tokenizer.json'}")
        lengths = workload.lengths()
        assert (lengths.input_tok.tolist(), lengths.output_tok.tolist()) == ([expected[0]], [expected[1]])
        assert "tokenizer.json" in workload.definition()["token_counts"]


@pytest.mark.parametrize(("name", "reason"), [("none.json", "No such file"), ("c.json", "is not a tokenizer")])
def test_a_tokenizer_that_cannot_be_read_is_refused(tmp_path, name, reason):
    (tmp_path / "c.json").write_text("{}")
    with pytest.raises(WorkloadFileError, match=reason):
        load_workload(f"vllm:x.jsonl@{tmp_path / name}")
