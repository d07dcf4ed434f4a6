"""Check drift against scipy on the raw values, against the textbook formula, and on changed pictures."""

from __future__ import annotations

from collections import Counter

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
def test_ks_equals_scipys(old: list[int], new: list[int]) -> None:
    distance, p = drift.ks_test(counts(old), counts(new))
    oracle = ks_2samp(old, new, method="asymp")
    assert distance == pytest.approx(oracle.statistic, abs=1e-12)
    assert p == pytest.approx(oracle.pvalue, abs=1e-9)


@settings(deadline=None)
@given(values, values)
def test_psi_by_value_follows_the_formula(old: list[int], new: list[int]) -> None:
    index, p = drift.psi_test(counts(old), counts(new))
    total = 0.0
    for value in set(old) | set(new):
        before = max(old.count(value), 0.5) / len(old)
        after = max(new.count(value), 0.5) / len(new)
        total += (after - before) * np.log(after / before)
    assert index == pytest.approx(total, abs=1e-9)
    assert 0 <= p <= 1
    assert drift.psi_test(counts(old), counts(old))[0] == 0


def test_psi_uses_deciles_of_the_old_values() -> None:
    """Each bin holds a tenth of the old values; all new values are in the last bin."""
    old, new = list(range(1, 101)), [100] * 50
    index, p = drift.psi_test(counts(old), counts(new), 10)
    empty = 0.5 / 50
    expected = 9 * (empty - 0.1) * np.log(empty / 0.1) + (1 - 0.1) * np.log(1 / 0.1)
    assert index == pytest.approx(expected)
    assert p < 1e-6


def test_unchanged_data_rarely_count_as_drift() -> None:
    """Check that about 5 % of the (approximate) p-values are below 0.05 if the distribution has not changed."""
    random = np.random.default_rng(0)
    pairs = [[random.normal(128, 20, size).astype(int).tolist() for size in (500, 300)] for _ in range(400)]
    ks_p_values = [drift.ks_test(counts(old), counts(new))[1] for old, new in pairs]
    psi_p_values = [drift.psi_test(counts(old), counts(new), 10)[1] for old, new in pairs]
    for p_values in (ks_p_values, psi_p_values):
        assert 0.01 <= np.mean(np.array(p_values) < 0.05) <= 0.09


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    folder = tmp_path_factory.mktemp("drift")
    prepare_dataset(Digits(labels=600, size=8), folder)
    return Store(folder)


def champion_record(store: Store) -> dict:
    columns = {name: column["shape"] for name, column in store.manifest["columns"].items()}
    profile = compute_profile(store.split("train")).finish()
    return {"columns": columns, "classes": store.manifest["classes"], "statistics": {"profile": profile}}


def profile_of(images: np.ndarray, labels: np.ndarray) -> dict:
    profile = Profile()
    profile.add(images, labels)
    return profile.finish()


def test_data_of_the_same_kind_pass_and_changed_pictures_fail(store: Store) -> None:
    test = store.split("test").take(np.arange(300))
    same = profile_of(test["image"], test["label"])
    findings = drift.check_data(Limits(), store.manifest, same, champion_record(store))
    assert [f for f in findings if not f.fine] == []
    assert {"rows", "class balance", "columns", "classes", "brightness ks", "label psi"} <= {f.check for f in findings}
    darker = profile_of((test["image"] * 0.6).astype(np.uint8), test["label"])
    bad = {f.check for f in drift.check_data(Limits(), store.manifest, darker, champion_record(store)) if not f.fine}
    assert {"brightness ks", "contrast psi"} <= bad
    assert "label psi" not in bad
    few = test["label"] < 5
    low_digits = profile_of(test["image"][few], test["label"][few])
    bad = {
        f.check for f in drift.check_data(Limits(), store.manifest, low_digits, champion_record(store)) if not f.fine
    }
    assert "label psi" in bad


def test_schema_balance_and_amount_are_checked(store: Store) -> None:
    same = compute_profile(store.split("train")).finish()
    other = champion_record(store) | {"classes": ["0", "1", "x"], "columns": {"image": [8, 8, 3], "label": []}}
    findings = drift.check_data(Limits(rows=601, class_share=0.11), store.manifest, same, other)
    bad = {f.check: f.text for f in findings if not f.fine}
    assert set(bad) == {"rows", "class balance", "columns", "classes"}
    assert "image [8, 8, 3] -> [8, 8, 1]" in bad["columns"]
    assert "-x" in bad["classes"]
    assert [f.text for f in drift.check_data(Limits(), store.manifest, same, None) if f.check == "drift"] == [
        "not compared: there is no champion with a profile of its training data"
    ]
