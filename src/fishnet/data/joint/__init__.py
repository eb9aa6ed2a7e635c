"""Joint data: the datasets of several heads as one dataset, whose images may be annotated for some heads only."""
