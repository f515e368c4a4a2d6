"""What requests for the record weigh."""

import pytest

from simulator.futures_api.request_weights import get_request_weight


@pytest.mark.parametrize(
    ("path", "query", "weight"),
    [
        ("/userTrades", {"symbol": ["BTCUSDT"]}, 5),
        ("/income", {}, 30),
        ("/income", {"symbol": ["BTCUSDT"]}, 30),
        ("/forceOrders", {"symbol": ["BTCUSDT"]}, 20),
        ("/forceOrders", {}, 50),
    ],
)
def test_the_record_weighs_what_it_weighs_at_aster(path: str, query: dict[str, list[str]], weight: int) -> None:
    assert get_request_weight("GET", path, query) == weight
