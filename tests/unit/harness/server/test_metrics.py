import pytest

from harness.server.metrics import ServerCounters, parse_counters

TWO_ENGINES = """\
# HELP python_gc_objects_collected_total Objects collected during gc
# TYPE python_gc_objects_collected_total counter
python_gc_objects_collected_total{generation="0"} 14254.0
# HELP vllm:num_requests_running Number of requests in model execution batches.
# TYPE vllm:num_requests_running gauge
vllm:num_requests_running{engine="0",model_name="tiny"} 3.0
vllm:num_requests_running{engine="1",model_name="tiny"} 5.0
# HELP vllm:num_requests_waiting Number of requests waiting to be processed.
# TYPE vllm:num_requests_waiting gauge
vllm:num_requests_waiting{engine="0",model_name="tiny"} 0.0
vllm:num_requests_waiting{engine="1",model_name="tiny"} 2.0
# HELP vllm:num_requests_waiting_by_reason Number of waiting requests by reason.
# TYPE vllm:num_requests_waiting_by_reason gauge
vllm:num_requests_waiting_by_reason{engine="0",model_name="tiny",reason="capacity"} 90.0
# HELP vllm:kv_cache_usage_perc KV-cache usage. 1 means 100 percent usage.
# TYPE vllm:kv_cache_usage_perc gauge
vllm:kv_cache_usage_perc{engine="0",model_name="tiny"} 0.25
vllm:kv_cache_usage_perc{engine="1",model_name="tiny"} 0.75
# HELP vllm:generation_tokens_total Number of generation tokens processed.
# TYPE vllm:generation_tokens_total counter
vllm:generation_tokens_total{engine="0",model_name="tiny"} 1000.0
vllm:generation_tokens_total{engine="1",model_name="tiny"} 1.5e+06
# HELP vllm:generation_tokens_created Number of generation tokens processed.
# TYPE vllm:generation_tokens_created gauge
vllm:generation_tokens_created{engine="0",model_name="tiny"} 1.7e+09
# HELP vllm:prompt_tokens_total Number of prefill tokens processed.
# TYPE vllm:prompt_tokens_total counter
vllm:prompt_tokens_total{engine="0",model_name="tiny"} 70.0
vllm:prompt_tokens_total{engine="1",model_name="tiny"} 80.0
# HELP vllm:num_preemptions_total Cumulative number of preemption from the engine.
# TYPE vllm:num_preemptions_total counter
vllm:num_preemptions_total{engine="0",model_name="tiny"} 1.0
vllm:num_preemptions_total{engine="1",model_name="tiny"} 0.0
# HELP vllm:time_to_first_token_seconds Histogram of time to first token in seconds.
# TYPE vllm:time_to_first_token_seconds histogram
vllm:time_to_first_token_seconds_bucket{engine="0",le="0.001",model_name="tiny"} 0.0
vllm:time_to_first_token_seconds_bucket{engine="0",le="+Inf",model_name="tiny"} 4.0
vllm:time_to_first_token_seconds_count{engine="0",model_name="tiny"} 4.0
vllm:time_to_first_token_seconds_sum{engine="0",model_name="tiny"} 0.5
vllm:time_to_first_token_seconds_count{engine="1",model_name="tiny"} 6.0
vllm:time_to_first_token_seconds_sum{engine="1",model_name="tiny"} 1.5
# HELP vllm:inter_token_latency_seconds Histogram of inter-token latency in seconds.
# TYPE vllm:inter_token_latency_seconds histogram
vllm:inter_token_latency_seconds_count{engine="0",model_name="tiny"} 100.0
vllm:inter_token_latency_seconds_sum{engine="0",model_name="tiny"} 2.5
# HELP vllm:prefix_cache_queries_total Prefix cache queries, in terms of number of queried tokens.
# TYPE vllm:prefix_cache_queries_total counter
vllm:prefix_cache_queries_total{engine="0",model_name="tiny"} 1500.0
vllm:prefix_cache_queries_total{engine="1",model_name="tiny"} 2500.0
# HELP vllm:prefix_cache_hits_total Prefix cache hits, in terms of number of cached tokens.
# TYPE vllm:prefix_cache_hits_total counter
vllm:prefix_cache_hits_total{engine="0",model_name="tiny"} 1200.0
vllm:prefix_cache_hits_total{engine="1",model_name="tiny"} 2000.0
"""


def test_two_engines_add_their_counters_and_queues_and_average_their_kv_usage():
    assert parse_counters(TWO_ENGINES) == ServerCounters(
        running=8.0,
        waiting=2.0,
        kv_usage_ratio=0.5,
        generation_tok=1_501_000.0,
        prompt_tok=150.0,
        preemptions=1.0,
        ttft_sum_s=2.0,
        ttft_count=10.0,
        itl_sum_s=2.5,
        itl_count=100.0,
        prefix_queries_tok=4_000.0,
        prefix_hits_tok=3_200.0,
    )


OLD = """\
vllm:gpu_cache_usage_perc{model_name="tiny"} 0.5
vllm:time_per_output_token_seconds_sum{model_name="tiny"} 3.0
vllm:time_per_output_token_seconds_count{model_name="tiny"} 60.0
vllm:gpu_prefix_cache_queries_total{model_name="tiny"} 90.0
vllm:gpu_prefix_cache_hits_total{model_name="tiny"} 30.0
"""


def test_older_names_are_understood():
    counters = parse_counters(OLD)
    assert (counters.kv_usage_ratio, counters.itl_sum_s, counters.itl_count) == (0.5, 3.0, 60.0)
    assert (counters.prefix_queries_tok, counters.prefix_hits_tok) == (90.0, 30.0)


def test_old_and_new_names_together_are_not_counted_twice():
    both = parse_counters(TWO_ENGINES + OLD)
    assert both == parse_counters(TWO_ENGINES)


def test_the_order_of_the_names_does_not_matter():
    assert parse_counters(OLD + TWO_ENGINES) == parse_counters(TWO_ENGINES)


@pytest.mark.parametrize("text", ["", "\n", "# HELP up Is it up\nup 1\n", 'vllm:other_total{engine="0"} 5\n'])
def test_what_a_server_does_not_export_is_none_and_never_zero(text):
    assert parse_counters(text) == ServerCounters()


@pytest.mark.parametrize(
    "line",
    [
        'vllm:num_requests_running{engine="0"} many',
        'vllm:num_requests_running{engine="0" 3',
        'vllm:num_requests_running{engine="0"}',
    ],
    ids=["no number", "no closing brace", "no value"],
)
def test_malformed_text_is_refused(line):
    with pytest.raises(ValueError):
        parse_counters(line + "\n")


def test_a_metric_without_labels_is_read():
    assert parse_counters("vllm:num_requests_running 4\n").running == 4


def test_requests_that_were_aborted_or_failed_are_not_finished():
    ended = {"stop": 5, "length": 7, "abort": 100, "error": 1000, "repetition": 2}
    lines = [
        f'vllm:request_success_total{{engine="{engine}",finished_reason="{why}",model_name="tiny"}} {count}.0'
        for engine in (0, 1)
        for why, count in ended.items()
    ]
    assert parse_counters("\n".join(lines) + "\n").finished_requests == 2 * (5 + 7 + 2)
