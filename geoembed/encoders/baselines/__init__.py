"""Location encoders that learned nothing: what every claim about a trained one has to beat.

All are closed formulas in float64 and need no torch. `geoembed.extending.baselines` says what
each is called; here is how each is computed.
"""
