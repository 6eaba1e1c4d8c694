"""Notifications of users on their page and by mail, and the outbox of all mails."""
