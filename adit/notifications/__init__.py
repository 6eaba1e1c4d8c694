"""Outgoing mail, each sent once. Used by the apps that write mails: nodes and jobs."""
