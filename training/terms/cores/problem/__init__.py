"""A problem as a rank hands it over, made ready: valid rows, where all ranks' stand, which pairs are the same."""
