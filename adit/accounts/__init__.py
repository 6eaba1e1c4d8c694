"""Users, groups, permissions and sign-in. Used by all apps that check what a user may do."""
