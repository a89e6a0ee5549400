"""Second moments of activations, which set output variances at initialisation; a test computes them again."""

# E[σ(z)²] for z ~ N(0, 1), by quadrature.
GELU_SECOND_MOMENT = 0.42522
SILU_SECOND_MOMENT = 0.35578
