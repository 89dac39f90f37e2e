"""Random inputs for everything that reads what others wrote: responses, settings, the journal, and users' SQL.

``make fuzz`` runs all of them on all cores; ``python -m tests.fuzz settings 1000 --seed 7`` repeats one door.
"""
