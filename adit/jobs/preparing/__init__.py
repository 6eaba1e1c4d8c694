"""Preparing: what a person puts together in the web page before there is a job."""
