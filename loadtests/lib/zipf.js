// Zipf-distributed ranks without a table, by rejection-inversion: W. Hörmann and G. Derflinger, "Rejection-inversion to
// generate variates from monotone discrete distributions", ACM TOMACS 6(3), 1996. A table of a million SKUs in each of a
// thousand virtual users would not fit.

// Gives a function of `random` that draws 0 … count - 1 with probability proportional to 1 / (rank + 1)^skew.
export function zipf(count, skew) {
  const h = (x) => (skew === 1 ? Math.log(x) : (x ** (1 - skew) - 1) / (1 - skew));
  const inverse = (y) => (skew === 1 ? Math.exp(y) : (1 + y * (1 - skew)) ** (1 / (1 - skew)));
  const low = h(1.5) - 1;
  const high = h(count + 0.5);
  const shortcut = 2 - inverse(h(2.5) - 2 ** -skew);
  return (random) => {
    for (;;) {
      const y = high + random() * (low - high);
      const x = inverse(y);
      const rank = Math.min(Math.max(Math.round(x), 1), count);
      if (rank - x <= shortcut || y >= h(rank + 0.5) - rank ** -skew) return rank - 1;
    }
  };
}
