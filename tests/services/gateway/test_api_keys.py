"""API keys, their budgets, and which bind addresses require them."""

from pathlib import Path

import pytest

from services.gateway.errors import ApiError
from services.gateway.keys import AdminKeys, ApiKeys, Budget, check_bind, read_keys
from services.gateway.trust import Sender
from shared.runtime.settings import GatewaySettings, SettingsError

EVERYWHERE = "0.0.0.0"  # noqa: S104  # what these tests are about


def test_concurrency_is_given_back() -> None:
    budget = Budget(concurrency=2, rate=100)
    with budget.reserve(0.0) as reservation:
        reservation.grow(2)
        with pytest.raises(ApiError) as caught:
            budget.take(1, 0.0)
    assert caught.value.status == 429
    assert caught.value.headers["Retry-After"] == "1"
    budget.take(2, 0.0)


def test_a_request_that_is_refused_for_its_prompts_gives_back_its_own_place() -> None:
    budget = Budget(concurrency=2, rate=100)
    with pytest.raises(ApiError) as caught, budget.reserve(0.0) as reservation:
        reservation.grow(3)
    assert (caught.value.status, caught.value.param) == (400, "prompt")
    assert budget.under_way == 0
    with budget.reserve(0.0), pytest.raises(ApiError) as caught, budget.reserve(0.0) as reservation:
        reservation.grow(2)
    assert caught.value.status == 429
    assert budget.under_way == 0


def test_requests_take_in_any_order() -> None:
    """A long body comes after a short one that began later; no time runs backwards."""
    budget = Budget(concurrency=100, rate=1)
    budget.take(1, 10.0)
    budget.take(1, 11.0)
    with pytest.raises(ApiError) as caught:
        budget.take(1, 5.0)
    assert caught.value.headers["Retry-After"] == "1"
    budget.take(1, 12.0)


def test_rate_fills_again() -> None:
    budget = Budget(concurrency=100, rate=0.5)
    budget.take(1, 10.0)
    with pytest.raises(ApiError) as caught:
        budget.take(1, 11.0)
    assert caught.value.status == 429
    assert caught.value.headers["Retry-After"] == "1"
    budget.take(1, 12.0)


def test_more_prompts_than_a_key_may_ever_have_is_not_worth_a_retry() -> None:
    with pytest.raises(ApiError) as caught:
        Budget(concurrency=2, rate=100).take(3, 0.0)
    assert (caught.value.status, caught.value.param) == (400, "prompt")


def test_keys_have_budgets_of_their_own() -> None:
    keys = ApiKeys(["one", "two"], 1, 10)
    assert keys.budget("Bearer one") is not keys.budget("Bearer two")
    assert keys.budget("bearer one") is keys.budget("Bearer one")


@pytest.mark.parametrize("header", ["", "one", "Basic one", "Bearer three", "Bearer ", "Bearer \udcff"])
def test_wrong_keys(header: str) -> None:
    with pytest.raises(ApiError) as caught:
        ApiKeys(["one"], 1, 10).budget(header)
    assert caught.value.status == 401
    assert caught.value.code == "invalid_api_key"


def test_without_keys_everyone_shares_a_budget() -> None:
    keys = ApiKeys([], 1, 10)
    assert keys.budget("") is keys.budget("Bearer anything")


def test_admin_is_for_this_machine_or_for_keys() -> None:
    here, elsewhere = Sender("127.0.0.1", ["localhost:8000"], {}), Sender("10.0.0.1", ["10.0.0.2"], {})
    AdminKeys([]).check("", here)
    for sender in (elsewhere, Sender("127.0.0.1", ["localhost"], {"X-Forwarded-For": "10.0.0.1"})):
        with pytest.raises(ApiError) as caught:
            AdminKeys([]).check("Bearer anything", sender)
        assert (caught.value.status, caught.value.code) == (403, "admin_key_needed")
        assert "OUTRIDER_ADMIN_KEYS_FILE" in caught.value.message
        AdminKeys([], keyless=True).check("", sender)
        AdminKeys(["root"]).check("Bearer root", sender)
    with pytest.raises(ApiError) as caught:
        AdminKeys(["root"]).check("", here)
    assert caught.value.status == 401


def test_key_files(tmp_path: Path) -> None:
    path = tmp_path / "keys"
    path.write_text("# ours\nalpha\n\n  beta  \n")
    assert read_keys(str(path), "OUTRIDER_API_KEYS_FILE") == ["alpha", "beta"]
    assert read_keys("", "OUTRIDER_API_KEYS_FILE") == []
    path.write_text("# none\n")
    for bad in (path, tmp_path / "missing", tmp_path):
        with pytest.raises(SettingsError, match="OUTRIDER_API_KEYS_FILE"):
            read_keys(str(bad), "OUTRIDER_API_KEYS_FILE")


def test_any_other_address_requires_keys() -> None:
    check_bind(GatewaySettings(host="127.0.0.1"))
    check_bind(GatewaySettings(host=EVERYWHERE, api_keys_file="keys"))
    for host in (EVERYWHERE, "::", "192.168.1.5", "example.org", ""):
        with pytest.raises(SettingsError, match=r"OUTRIDER_HOST.*OUTRIDER_API_KEYS_FILE"):
            check_bind(GatewaySettings(host=host))
