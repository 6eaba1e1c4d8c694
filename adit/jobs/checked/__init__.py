"""Checked: from the checked rows of a sheet to a transfer, and what need not go again."""
