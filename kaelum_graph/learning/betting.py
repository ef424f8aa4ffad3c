"""A test of a mean that may be looked at after every observation."""

from __future__ import annotations

import math
from dataclasses import dataclass

LARGEST_BET = 0.9


@dataclass(slots=True, kw_only=True)
class BettingTest:
    """Whether the mean of bounded numbers is above 0, by betting on it (Waudby-Smith and Ramdas 2024, §4 and B.3).

    A gambler with 1 stakes the share λ of the capital on each number x ≥ −1 before seeing it, which turns the capital K
    into K·(1 + λx). As long as each x has a mean of at most 0 given those before, K is a nonnegative supermartingale:
    that it ever reaches 1/α has a probability of at most α (Ville 1939), however long one goes on and whenever one
    stops. λ is the approximate growth-rate-adaptive bet: mean / (variance + mean²) of the numbers so far, within
    [0, 0.9].
    """

    count: int = 0
    total: float = 0.0
    squares: float = 0.0  # sum of (x − mean so far)²
    log_capital: float = 0.0

    @property
    def bet(self) -> float:
        """The share staked on the next number."""
        if not self.count:
            return 0.1
        mean = self.total / (self.count + 1)
        variance = (0.0625 + self.squares) / (self.count + 1)
        return min(max(mean / (variance + mean * mean), 0.0), LARGEST_BET)

    @property
    def mean(self) -> float:
        """Of the numbers so far; 0 without any."""
        return self.total / self.count if self.count else 0.0

    def add(self, number: float) -> None:
        """Bet on the next number. Raises `ValueError` for one below −1."""
        if not number >= -1.0:
            raise ValueError(f"{number} is below the bound -1.")
        self.log_capital += math.log1p(self.bet * number)
        self.count += 1
        self.total += number
        self.squares += (number - self.total / (self.count + 1)) ** 2

    def rejects(self, alpha: float) -> bool:
        """Whether the capital is large enough to say that the mean is above 0, wrongly with probability `alpha`."""
        return self.log_capital >= -math.log(alpha)
