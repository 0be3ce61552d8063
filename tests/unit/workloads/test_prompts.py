import numpy as np
import pytest

from workloads.prompts import random_prompt
from workloads.tiny_model import VOCABULARY_SIZE


@pytest.mark.parametrize("length_tok", [1, 8, 500])
def test_a_prompt_has_the_length_asked_for_in_plain_integers(length_tok):
    prompt = random_prompt(np.random.default_rng(0), length_tok)
    assert len(prompt) == length_tok
    assert all(type(token) is int for token in prompt)


def test_no_two_prompts_start_alike():
    rng = np.random.default_rng(1)
    starts = {tuple(random_prompt(rng, 8)) for _ in range(5_000)}
    assert len(starts) == 5_000


def test_token_ids_lie_above_byte_and_control_tokens_and_within_the_smallest_vocabulary():
    ids = random_prompt(np.random.default_rng(2), 200_000)
    assert min(ids) >= 3 + 256
    assert max(ids) < VOCABULARY_SIZE


def test_the_same_seed_gives_the_same_prompt():
    first, second = (random_prompt(np.random.default_rng(7), 50) for _ in range(2))
    assert first == second
