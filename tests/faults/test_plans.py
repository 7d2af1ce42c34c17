"""After every plan of faults: the undisturbed run's bytes, or a named refusal with nothing published."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from cellscale.ngff.labels import list_labels
from tests.faults.drivers import DRIVERS
from tests.faults.moments import MOMENTS, every_moment
from tests.faults.plans import PLANS, Ground, Plan, ground, harm, storm
from tests.faults.together import TOGETHER

ROOT = Path(__file__).parents[2]
ALL = PLANS | TOGETHER | DRIVERS | MOMENTS


@pytest.fixture(scope="module")
def field(s3: dict[str, Any], cluster: None, tmp_path_factory: pytest.TempPathFactory) -> Ground:
    """An image in a bucket and its undisturbed layer."""
    return ground("s3://cells/faults/movie.zarr", s3, tmp_path_factory.mktemp("marks"))


def check(of: Ground, plan: Plan) -> None:
    """Carry out a plan and hold it against its promise."""
    before = list_labels(of.image.url, storage_options=of.options)
    ending = plan.carry_out(of)
    assert not re.search(r"(^|\b)0 ×|^ of", ending.faults), "the plan injected nothing"
    if plan.finishes:
        assert ending.finished, ending.named
        assert ending.equal
    else:
        assert not ending.finished
        assert plan.names in ending.named
        assert "nothing was published" in ending.named
        assert list_labels(of.image.url, storage_options=of.options) == before


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(ALL))
def test_a_plan_keeps_its_promise(field: Ground, name: str) -> None:
    check(field, ALL[name])


def test_killed_workers_and_a_failing_store_do_not_change_a_byte(field: Ground) -> None:
    check(field, Plan(carry_out=lambda of: harm(of, 3, "kill"), finishes=True))
    check(field, Plan(carry_out=lambda of: storm(of, 4, "500", "reset", "truncated", share=0.08), finishes=True))


@pytest.mark.parametrize("kind", ["death", "full disk"])
def test_a_run_that_stops_at_some_of_its_changes_loses_nothing(tmp_path: Path, kind: str) -> None:
    """At every tenth; the plans stop it at each."""
    ending = every_moment(tmp_path, kind, over=True, step=10)
    assert ending.finished, ending.named


def test_the_page_lists_every_plan() -> None:
    page = (ROOT / "docs" / "reliability.md").read_text()
    assert set(ALL) <= set(re.findall(r"^\| ([^|]+) \|", page, re.M))
