"""Models made smaller or faster: a file for each way, none of which knows another."""
