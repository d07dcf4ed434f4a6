"""Drift against scipy on the values themselves, against the textbook formula, and on pictures that have changed."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import ks_2samp

from components.data.digits import Digits
from components.storage.dataset import prepare_dataset
from components.storage.profile import Profile, compute_profile
from components.storage.store import Store
from components.verdicts import drift
from components.verdicts.drift import Limits

values = st.lists(st.integers(0, 255), min_size=2, max_size=80)


def counts(numbers: list[int]) -> dict[str, int]:
    return {str(value): count for value, count in Counter(numbers).items()}


@settings(deadline=None)
@given(values, values)
def test_ks_is_scipys(old: list[int], new: list[int]) -> None:
    distance, p = drift.ks_test(counts(old), counts(new))
    oracle = ks_2samp(old, new, method="asymp")
    assert distance == pytest.approx(oracle.statistic, abs=1e-12)
    assert p == pytest.approx(oracle.pvalue, abs=1e-9)


@settings(deadline=None)
@given(values, values)
def test_psi_by_value_is_the_formula(old: list[int], new: list[int]) -> None:
    index, p = drift.psi_test(counts(old), counts(new))
    total = 0.0
    for value in set(old) | set(new):
        before = max(old.count(value), 0.5) / len(old)
        after = max(new.count(value), 0.5) / len(new)
        total += (after - before) * np.log(after / before)
    assert index == pytest.approx(total, abs=1e-9)
    assert 0 <= p <= 1
    assert drift.psi_test(counts(old), counts(old))[0] == 0


def test_psi_in_tenths_of_the_old_ones() -> None:
    """Each bin holds a tenth of the old values; the new ones all lie in the last one."""
    old, new = list(range(1, 101)), [100] * 50
    index, p = drift.psi_test(counts(old), counts(new), 10)
    empty = 0.5 / 50
    expected = 9 * (empty - 0.1) * np.log(empty / 0.1) + (1 - 0.1) * np.log(1 / 0.1)
    assert index == pytest.approx(expected)
    assert p < 1e-6


def test_chance_alone_is_seldom_called_drift() -> None:
    """p-values of data that have not changed: the share below 5 % is about that (both approximate)."""
    random = np.random.default_rng(0)
    rounds = [(random.normal(128, 20, 500).astype(int).tolist(), random.normal(128, 20, 300).astype(int).tolist())
              for _ in range(400)]  # fmt: skip
    below = [np.mean([measure(counts(a), counts(b))[1] < 0.05 for a, b in rounds]) for measure in (
        drift.ks_test, lambda a, b: drift.psi_test(a, b, 10)
    )]  # fmt: skip
    assert all(0.01 <= share <= 0.09 for share in below), below


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    folder = tmp_path_factory.mktemp("drift")
    prepare_dataset(Digits(labels=600, size=8), folder)
    return Store(folder)


def known(store: Store) -> dict:
    columns = {name: column["shape"] for name, column in store.manifest["columns"].items()}
    profile = compute_profile(store.split("train")).finish()
    return {"columns": columns, "classes": store.manifest["classes"], "statistics": {"profile": profile}}


def profile_of(images: np.ndarray, labels: np.ndarray) -> dict:
    found = Profile()
    found.add(images, labels)
    return found.finish()


def test_more_of_the_same_passes_and_changed_pictures_do_not(store: Store) -> None:
    test = store.split("test").take(np.arange(300))
    same = profile_of(test["image"], test["label"])
    findings = drift.check_data(Limits(), store.manifest, same, known(store))
    assert [f for f in findings if not f.fine] == []
    assert {"rows", "class balance", "columns", "classes", "brightness ks", "label psi"} <= {f.check for f in findings}
    darker = profile_of((test["image"] * 0.6).astype(np.uint8), test["label"])
    bad = {f.check for f in drift.check_data(Limits(), store.manifest, darker, known(store)) if not f.fine}
    assert {"brightness ks", "contrast psi"} <= bad
    assert "label psi" not in bad
    few = test["label"] < 5
    low_digits = profile_of(test["image"][few], test["label"][few])
    bad = {f.check for f in drift.check_data(Limits(), store.manifest, low_digits, known(store)) if not f.fine}
    assert "label psi" in bad


def test_schema_balance_and_amount_are_checked(store: Store, tmp_path: Path) -> None:
    same = compute_profile(store.split("train")).finish()
    other = known(store) | {"classes": ["0", "1", "x"], "columns": {"image": [8, 8, 3], "label": []}}
    bad = {f.check: f.text for f in drift.check_data(Limits(rows=601, class_share=0.11), store.manifest, same, other)
           if not f.fine}  # fmt: skip
    assert set(bad) == {"rows", "class balance", "columns", "classes"}
    assert "image [8, 8, 3] -> [8, 8, 1]" in bad["columns"]
    assert "-x" in bad["classes"]
    assert [f.text for f in drift.check_data(Limits(), store.manifest, same, None) if f.check == "drift"] == [
        "not compared: there is no champion that knows its training data"
    ]
