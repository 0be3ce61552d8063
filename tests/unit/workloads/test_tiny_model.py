import json

import pytest
from tokenizers import Tokenizer

from workloads.tiny_model import CONTEXT_TOK, write_tiny_model


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return write_tiny_model(tmp_path_factory.mktemp("tiny") / "new" / "model")


def test_the_same_files_are_written_every_time(model, tmp_path):
    again = write_tiny_model(tmp_path)
    names = sorted(path.name for path in model.iterdir())
    assert names == ["config.json", "tokenizer.json", "tokenizer_config.json"]
    assert all((model / name).read_bytes() == (again / name).read_bytes() for name in names)


def test_the_vocabulary_is_exactly_as_large_as_the_configuration_says(model):
    config = json.loads((model / "config.json").read_text())
    tokenizer = Tokenizer.from_file(str(model / "tokenizer.json"))
    assert tokenizer.get_vocab_size() == config["vocab_size"] == 2_048
    assert sorted(tokenizer.get_vocab().values()) == list(range(2_048))


def test_special_tokens_have_the_ids_that_the_configuration_names(model):
    config = json.loads((model / "config.json").read_text())
    tokenizer = Tokenizer.from_file(str(model / "tokenizer.json"))
    assert tokenizer.token_to_id("<s>") == config["bos_token_id"]
    assert tokenizer.token_to_id("</s>") == config["eos_token_id"]


def test_the_configuration_is_that_of_a_consistent_llama(model):
    config = json.loads((model / "config.json").read_text())
    assert config["architectures"] == ["LlamaForCausalLM"]
    assert config["num_attention_heads"] * config["head_dim"] == config["hidden_size"]
    assert config["num_attention_heads"] % config["num_key_value_heads"] == 0
    assert config["max_position_embeddings"] == CONTEXT_TOK


def test_the_tokenizer_gives_back_the_text_it_was_given(model):
    tokenizer = Tokenizer.from_file(str(model / "tokenizer.json"))
    text = "Watts, joules and tokens: 3 µJ."
    assert tokenizer.decode(tokenizer.encode(text).ids) == text


def test_the_tokenizer_knows_the_context_of_the_model(model):
    assert json.loads((model / "tokenizer_config.json").read_text())["model_max_length"] == CONTEXT_TOK
