"""The append-only audit trail. Every app that acts for a user records events here."""
