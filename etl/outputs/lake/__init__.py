"""A Delta lake with the rows of the views, for engines that read many accounts at once."""
