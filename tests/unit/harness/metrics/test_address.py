import pytest

from harness.config import load_config
from harness.errors import ConfigError
from harness.metrics.address import check_address, parse_address

NO_ADDRESSES = ["", "9477", ":9477", "localhost", "localhost:", "localhost:x", "localhost:²", "localhost:65536"]


@pytest.mark.parametrize(
    ("address", "parsed"),
    [
        ("127.0.0.1:9477", ("127.0.0.1", 9477)),
        ("localhost:0", ("localhost", 0)),
        ("[::1]:65535", ("::1", 65535)),
    ],
)
def test_an_address_is_a_host_and_a_port(address, parsed):
    assert parse_address(address) == parsed
    assert check_address(address) == address


@pytest.mark.parametrize("address", NO_ADDRESSES)
def test_anything_else_is_refused_with_an_example(address):
    with pytest.raises(ValueError, match=r"127\.0\.0\.1:9477"):
        parse_address(address)


@pytest.mark.parametrize("address", NO_ADDRESSES)
def test_a_run_refuses_it_with_its_other_options(address):
    with pytest.raises(ConfigError, match=f"metrics_address = '{address}': give HOST:PORT"):
        load_config({"metrics_address": address}, None)


def test_a_run_may_serve_no_metrics():
    assert load_config({"metrics_address": "none"}, None).metrics_address == "none"
