"""How long data is kept, its deletion by the scheduler, and the ledgers of deleted jobs."""
