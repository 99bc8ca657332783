"""What is trained: data sets, models, losses."""
