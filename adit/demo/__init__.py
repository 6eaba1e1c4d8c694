"""The demo: a small PACS with sample patients, who are all made up."""
