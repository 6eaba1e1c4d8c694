"""Review: withheld images, inspected and decided on by a person."""
