"""A tiny Llama with random weights, so that a real server runs on a machine without a GPU and without a download.

Only the configuration and a small tokenizer are written; the server draws the weights itself
(``--load-format dummy``). What it says is noise; how it batches, schedules and slows with length is real.
"""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

TINY_MODEL = "tiny"
VOCABULARY_SIZE = 2_048
CONTEXT_TOK = 32_768

_CONFIG: dict[str, Any] = {
    "architectures": ["LlamaForCausalLM"],
    "model_type": "llama",
    "hidden_size": 256,
    "intermediate_size": 688,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 64,
    "vocab_size": VOCABULARY_SIZE,
    "max_position_embeddings": CONTEXT_TOK,
    "rms_norm_eps": 1e-5,
    "rope_theta": 10_000.0,
    "hidden_act": "silu",
    "tie_word_embeddings": False,
    "bos_token_id": 0,
    "eos_token_id": 1,
    "torch_dtype": "float32",
}
_TOKENIZER_CONFIG = {
    "tokenizer_class": "PreTrainedTokenizerFast",
    "bos_token": "<s>",
    "eos_token": "</s>",
    "unk_token": "<unk>",
    "model_max_length": CONTEXT_TOK,
}


def write_tiny_model(folder: Path) -> Path:
    """Write the model's configuration and tokenizer into ``folder`` and return it; the same files every time."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps(_CONFIG, indent=1))
    (folder / "tokenizer_config.json").write_text(json.dumps(_TOKENIZER_CONFIG, indent=1))
    _train_tokenizer().save(str(folder / "tokenizer.json"))
    return folder


def _train_tokenizer() -> Any:
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY_SIZE,
        special_tokens=["<s>", "</s>", "<unk>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(_made_up_sentences(), trainer)
    return tokenizer


def _made_up_sentences() -> list[str]:
    rng = random.Random(0)  # noqa: S311 - words for a toy vocabulary, not a secret
    letters = "abcdefghijklmnopqrstuvwxyz"
    words = ["".join(rng.choices(letters, k=rng.randint(2, 9))) for _ in range(4_000)]
    return [" ".join(rng.choices(words, k=50)) for _ in range(2_000)]
