"""Lab: an archive that lies, a wire that breaks, and an auditor that compares ledger and truth."""
