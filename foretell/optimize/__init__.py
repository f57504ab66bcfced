"""Ways to make a model smaller or faster: a file or a folder each, none of which knows another."""
