"""Types that carry a range: an argument annotated with one is checked when a recipe sets it (see `signature.py`).

To a type checker they are plain `int`, `float` and `list[int]`; the name of the annotation is read from the source.
"""

from __future__ import annotations

from math import inf

Count = int  # 1, 2, 3, ...
Counts = list[int]  # at least one Count
Natural = int  # 0, 1, 2, ...
Seed = int  # for every generator of random numbers, including NumPy's old ones (32 bits)
Positive = float  # > 0
NonNegative = float  # >= 0
Fraction = float  # 0 <= x <= 1
Proportion = float  # 0 < x <= 1
Open = float  # 0 < x < 1
Decay = float  # 0 <= x < 1

# name -> (Python types, test, text of the error line)
RANGES = {
    "Count": ((int,), lambda x: x >= 1, "a whole number of at least 1"),
    "Counts": (
        (list,),
        lambda x: x and all(isinstance(item, int) and not isinstance(item, bool) and item >= 1 for item in x),
        "a list of one or more whole numbers of at least 1",
    ),
    "Natural": ((int,), lambda x: x >= 0, "a whole number of at least 0"),
    "Seed": ((int,), lambda x: 0 <= x < 2**32, f"a whole number from 0 to {2**32 - 1}"),
    "Positive": ((int, float), lambda x: 0 < x < inf, "a number above 0"),
    "NonNegative": ((int, float), lambda x: 0 <= x < inf, "a number of at least 0"),
    "Fraction": ((int, float), lambda x: 0 <= x <= 1, "a number from 0 to 1"),
    "Proportion": ((int, float), lambda x: 0 < x <= 1, "a number above 0 and at most 1"),
    "Open": ((int, float), lambda x: 0 < x < 1, "a number between 0 and 1"),
    "Decay": ((int, float), lambda x: 0 <= x < 1, "a number of at least 0 and below 1"),
}
