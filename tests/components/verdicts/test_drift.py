"""Check drift against scipy on the raw values, against the textbook formula, and on changed pictures."""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import chi2, ks_2samp

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
    assert p == pytest.approx(chi2.sf(expected * 100 * 50 / 150, 10 - 1))


def test_a_value_on_an_edge_belongs_to_the_bin_below_and_empty_bins_do_not_count() -> None:
    """Two bins with the edge 1: the values 0 and 1, and the value 2; then one bin alone."""
    old, new = {"0": 10, "1": 30, "2": 40}, {"0": 5, "1": 5, "2": 10}
    assert drift.psi_test(old, new, 2) == (0.0, 1.0)
    assert drift.psi_test(old, {"0": 10, "2": 10}, 2) == (0.0, 1.0)
    assert drift.psi_test({"7": 10}, {"7": 30}) == (0.0, 1.0), "one value: one degree of freedom, not none"
    assert drift.psi_test({"7": 10}, {"7": 30}, 10) == (0.0, 1.0)


def test_a_bin_with_a_single_example_counts() -> None:
    """Two bins of old values with the edge 1; the upper one, 4 to infinity, holds one new example."""
    index, _ = drift.psi_test({"0": 1}, {"0": 3, "4": 1}, 2)
    assert index == pytest.approx((3 / 4 - 1) * np.log(3 / 4) + (1 / 4 - 1 / 2) * np.log((1 / 4) / (1 / 2)))


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


# ------------------------------------------------------------------------------------------------ at the edge


def test_the_defaults_are_those_that_are_documented() -> None:
    assert Limits() == Limits(rows=20, class_share=0.01, psi=0.25, ks=0.2, chance=0.01)
    assert drift.DECILES == 10


def failed_checks(
    limits: Limits, counts: dict[str, int], champion: dict | None = None, profile: Any = None
) -> set[str]:
    """Return the names of the checks that data with these numbers per class fail."""
    train = {"rows": sum(counts.values()), "class_counts": counts}
    manifest = {"splits": {"train": train}, "columns": {}, "classes": list(counts)}
    return {finding.check for finding in drift.check_data(limits, manifest, profile, champion) if not finding.fine}


def test_the_limits_of_amount_and_balance_are_allowed_themselves() -> None:
    """100 examples, 25 of the rarest class."""
    counts = {"a": 75, "b": 25}
    assert failed_checks(Limits(rows=100, class_share=0.25), counts) == set()
    assert failed_checks(Limits(rows=101, class_share=0.25), counts) == {"rows"}
    assert failed_checks(Limits(rows=100, class_share=np.nextafter(0.25, 1)), counts) == {"class balance"}
    assert failed_checks(Limits(rows=1, class_share=0.01), {"a": 0, "b": 0}) == {"rows", "class balance"}


def test_rare_classes_are_a_caution_that_refuses_nothing() -> None:
    splits = {"train": {"rows": 100, "class_counts": {"a": 50, "b": 50}}, "test": {"class_counts": {"a": 20, "b": 0}}}
    manifest = {"splits": splits, "columns": {}, "classes": ["a", "b"]}
    (caution,) = [finding for finding in drift.check_data(Limits(), manifest, None, None) if finding.check == "caution"]
    assert (caution.fine, caution.text) == (True, "test has no example of 'b': no score covers them")


@pytest.mark.parametrize("statistic", ["psi", "ks"])
def test_drift_fails_only_beyond_its_limit_and_below_chance(statistic: str) -> None:
    old, new = {str(value): 10 for value in range(20)}, {str(value): 10 for value in range(4, 24)}
    champion = {"columns": {}, "classes": ["a"], "statistics": {"profile": {"brightness": old}}}
    value, p = drift.psi_test(old, new, 10) if statistic == "psi" else drift.ks_test(old, new)
    assert 0 < p < 0.01
    loose = {"psi": 1000.0, "ks": 0.999, "class_share": 0.0}

    def fails(**limits: float) -> bool:
        return failed_checks(Limits(**loose | limits), {"a": 100}, champion, {"brightness": new}) != set()

    assert not fails(**{statistic: value})
    assert fails(**{statistic: np.nextafter(value, 0)})
    below = np.nextafter(value, 0)
    assert not fails(**{statistic: below}, chance=p)
    assert fails(**{statistic: below}, chance=np.nextafter(p, 1))


def test_each_label_is_a_bin_of_its_own() -> None:
    old = {str(label): 100 for label in range(40)} | {"3": 300}
    new = {str(label): 100 for label in range(40)} | {"4": 300}
    champion = {"columns": {}, "classes": ["a"], "statistics": {"profile": {"label": old}}}
    value, _ = drift.psi_test(old, new)
    for limit, expected in ((value, set()), (np.nextafter(value, 0), {"label psi"})):
        assert failed_checks(Limits(psi=limit), {"a": 100}, champion, {"label": new}) == expected
    assert failed_checks(Limits(psi=1e-9), {"a": 100}, champion, {"brightness": new}) == set(), "no such old profile"


def test_changed_columns_and_the_order_of_classes_are_named(store: Store) -> None:
    champion = champion_record(store)
    findings = drift.check_data(Limits(), store.manifest, None, champion | {"classes": champion["classes"][::-1]})
    (text,) = [finding.text for finding in findings if finding.check == "classes"]
    assert "changed (their order)" in text
    findings = drift.check_data(Limits(), store.manifest, None, champion | {"columns": {}})
    (text,) = [finding.text for finding in findings if finding.check == "columns"]
    assert "label absent -> []" in text
