"""Metering, daily usage records and their charts. Used by the gateway, slots and node pages."""
