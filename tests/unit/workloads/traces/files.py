"""Small traces of every format with the same five requests, two of which are no load."""

from __future__ import annotations

import json
from pathlib import Path

TIMES_S = (0.0, 0.5, 2.0, 3.5, 60.0)
INPUT_TOK = (374, 12, 0, 91, 500)
OUTPUT_TOK = (44, 0, 7, 16, 1000)
USABLE = (0, 3, 4)

AZURE_2023 = """TIMESTAMP,ContextTokens,GeneratedTokens\r
2023-11-16 18:15:46.6805900,374,44\r
2023-11-16 18:15:47.1805900,12,0\r
2023-11-16 18:15:48.6805900,0,7\r
2023-11-16 18:15:50.1805900,91,16\r
2023-11-16 18:16:46.6805900,500,1000"""

AZURE_2024 = """TIMESTAMP,ContextTokens,GeneratedTokens
2024-05-10 00:00:00.500000+00:00,374,44
2024-05-10 00:00:01+00:00,12,0
2024-05-10 00:00:02.500000+00:00,0,7
2024-05-10 00:00:04+00:00,91,16
2024-05-10 00:01:00.500000+00:00,500,1000
"""

BURSTGPT = """Timestamp,Model,Request tokens,Response tokens,Total tokens,Log Type
5,ChatGPT,374,44,418,Conversation log
5.5,GPT-4,12,0,12,API log
7,ChatGPT,0,7,7,Conversation log
8.5,GPT-4,91,16,107,Conversation log
65,ChatGPT,500,1000,1500,API log
"""

BURSTGPT_3 = """Timestamp,Session ID,Elapsed time,Model,Request tokens,Response tokens,Total tokens,Log Type
5,a-b,1.5,ChatGPT,374,44,418,Conversation log
5.5,,,GPT-4,12,0,12,API log
7,c-d,2,ChatGPT,0,7,7,Conversation log
8.5,c-d,2,GPT-4,91,16,107,Conversation log
65,,,ChatGPT,500,1000,1500,API log
"""

MOONCAKE = "\n".join(
    json.dumps({"timestamp": 27482 + 1000 * at_s, "input_length": given, "output_length": made, "hash_ids": [1, 2]})
    for at_s, given, made in zip(TIMES_S, INPUT_TOK, OUTPUT_TOK, strict=True)
)

MOONCAKE_CSV = "timestamp,input_length,output_length\n0,374,44\n500,12,0\n2000,0,7\n3500,91,16\n60000,500,1000\n"

VLLM = "\n".join(
    json.dumps({"prompt": "word" * given, "output_tokens": made})
    for given, made in zip(INPUT_TOK, OUTPUT_TOK, strict=True)
)


def conversation(prompt: str, answer: str, more: int = 0) -> dict[str, object]:
    turns = [("human", prompt), ("gpt", answer), *[("human", "on")] * more]
    return {"id": "x", "conversations": [{"from": who, "value": text} for who, text in turns]}


SHAREGPT = json.dumps(
    [
        conversation("word" * given, "word" * made, more=made % 3)
        for given, made in zip(INPUT_TOK, OUTPUT_TOK, strict=True)
    ],
    indent=1,
    ensure_ascii=False,
)

TIMED = {
    "azure of 2023": ("azure", AZURE_2023),
    "azure of 2024": ("azure", AZURE_2024),
    "burstgpt": ("burstgpt", BURSTGPT),
    "burstgpt with sessions": ("burstgpt", BURSTGPT_3),
    "mooncake": ("mooncake", MOONCAKE),
    "mooncake as csv": ("mooncake", MOONCAKE_CSV),
}
OF_TEXTS = {"sharegpt": ("sharegpt", SHAREGPT), "vllm": ("vllm", VLLM)}
EVERY = {**TIMED, **OF_TEXTS}


def written(folder: Path, text: str) -> Path:
    path = folder / "trace"
    path.write_bytes(text.encode())
    return path
