"""How fast Gapless is, as parts of the possible: ``make bench``. See README.md beside this file."""
