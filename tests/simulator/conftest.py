"""Fixtures of the simulator's tests."""

import logging

import pytest
import structlog


@pytest.fixture(autouse=True)
def quiet_services() -> None:
    """The services log errors alone, as under `outrider simulate`: their lines take most of a run's time."""
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.ERROR))
